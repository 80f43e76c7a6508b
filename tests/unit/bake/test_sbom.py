"""SBOMs: valid by the official schemas, complete, and the same bytes for the same image."""

import hashlib
import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from bake import sbom
from bake.inventory import ImageInventory
from qtrade.manifest.image import ImageComponent
from tests.fakes.examples import make_settings, sha
from tests.fakes.inventories import cache_inventory, file, inventory, paragraph, status

pytestmark = pytest.mark.unit

AGENT = ImageComponent(name="agent", version="1:7.1-1", sha256=sha("agent"), standin=True)
TOOL = ImageComponent(name="tool", version="2+x", sha256=sha("tool"), standin=False)


def make_inventory(**changes: Any) -> ImageInventory:
    base = status(paragraph("libstdc++6", "14.2.0-19", "gcc-14"), paragraph("libssl3t64", "3.5.1-1~deb13u1", "openssl"))
    above = status(
        paragraph("libstdc++6", "14.2.0-19", "gcc-14"),
        paragraph("libssl3t64", "3.5.1-1~deb13u1", "openssl"),
        paragraph("agent", "1:7.1-1"),
    )
    made = inventory(base, above, **{"components": (AGENT, TOOL), **changes})
    doc = "usr/share/doc/libstdc++6/copyright"
    licences = {doc: ("GPL-3+", "Half+Free", "Half-Free")}
    layer = made.tree.layers[0][1]
    layer.nodes.update(dict.fromkeys(("usr", "usr/share", "usr/share/doc"), made.tree.nodes["etc"].node))
    layer.nodes.update({"usr/share/doc/libstdc++6": made.tree.nodes["etc"].node, doc: file("x")})
    layer.licences.update(licences)
    return ImageInventory(made.image, type(made.tree)(made.tree.layers))


def documents(made: ImageInventory) -> tuple[dict[str, Any], dict[str, Any]]:
    return json.loads(sbom.render(made, "cyclonedx")), json.loads(sbom.render(made, "spdx"))


def test_both_documents_are_valid_by_the_official_checks() -> None:
    made = make_inventory()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.render(made, "cyclonedx").decode()) is None
    parsed = JsonLikeDictParser().parse(json.loads(sbom.render(made, "spdx")))
    assert validate_full_spdx_document(parsed) == []


def test_the_checks_can_fail() -> None:
    cyclonedx, spdx = documents(make_inventory())
    cyclonedx["components"][0]["licenses"] = [{"license": {"id": "No-Such-Licence"}}]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(cyclonedx)) is not None
    spdx["packages"][1]["licenseDeclared"] = "LicenseRef-nowhere"
    assert validate_full_spdx_document(JsonLikeDictParser().parse(spdx)) != []


def test_packages_components_kernel_and_initrd_are_all_in_both() -> None:
    made = make_inventory()
    cyclonedx, spdx = documents(made)
    expected = {
        ("libstdc++6", "14.2.0-19"),
        ("libssl3t64", "3.5.1-1~deb13u1"),
        ("agent", "1:7.1-1"),
        ("tool", "2+x"),
        ("linux-kernel", made.image.kernel_release),
        ("initrd", made.image.kernel_release),
    }
    refs = [part["bom-ref"] for part in cyclonedx["components"]]
    assert refs == sorted(refs)
    assert {(part["name"], part["version"]) for part in cyclonedx["components"]} == expected
    assert len(cyclonedx["components"]) == len(expected)
    assert {(part["name"], part["versionInfo"]) for part in spdx["packages"][1:]} == expected
    assert {edge["relatedSpdxElement"] for edge in spdx["relationships"]} == {
        part["SPDXID"] for part in spdx["packages"]
    }


def component(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(part for part in document["components"] if part["name"] == name)


def test_a_package_has_its_purl_source_layer_and_licences() -> None:
    part = component(documents(make_inventory())[0], "libstdc++6")
    assert part["purl"] == "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=trixie"
    properties = {item["name"]: item["value"] for item in part["properties"]}
    assert properties["qtrade:source"] == "gcc-14"
    assert properties["qtrade:layer"] == "base"
    assert part["licenses"][0] == {"license": {"id": "GPL-3.0-or-later"}}
    assert {"license": {"name": "Half+Free"}} in part["licenses"]


def test_a_component_that_apt_installed_stands_once_with_digest_and_standin_flag() -> None:
    cyclonedx, spdx = documents(make_inventory())
    part = component(cyclonedx, "agent")
    assert part["purl"] == f"pkg:generic/agent@1:7.1-1?checksum=sha256:{AGENT.sha256}"
    assert part["hashes"] == [{"alg": "SHA-256", "content": AGENT.sha256}]
    assert {"name": "qtrade:standin", "value": "true"} in part["properties"]
    assert {"name": "qtrade:standin", "value": "false"} in component(cyclonedx, "tool")["properties"]
    assert [item["name"] for item in spdx["packages"]].count("agent") == 1


def test_a_package_of_another_version_than_the_component_is_a_package() -> None:
    other = AGENT.model_copy(update={"version": "9"})
    cyclonedx, _ = documents(make_inventory(components=(other,)))
    assert [part["purl"][:12] for part in cyclonedx["components"] if part["name"] == "agent"] == [
        "pkg:deb/debi",
        "pkg:generic/",
    ]


def test_purls_are_canonical() -> None:
    parts = sbom.parts_of(make_inventory())
    assert len(parts) > 4
    for part in parts:
        assert PackageURL.from_string(part.purl).to_string() == part.purl


def test_equal_images_give_equal_bytes_and_the_time_is_the_epoch() -> None:
    first, second = (sbom.render(make_inventory(), form) for form in ("cyclonedx", "spdx"))
    assert (first, second) == (sbom.render(make_inventory(), "cyclonedx"), sbom.render(make_inventory(), "spdx"))
    cyclonedx, spdx = documents(make_inventory())
    assert cyclonedx["metadata"]["timestamp"] == spdx["creationInfo"]["created"] == "2025-11-23T00:00:00Z"


def test_another_image_is_another_document() -> None:
    one, other = (documents(make_inventory(cmdline=text)) for text in ("quiet", "debug"))
    assert one[0]["serialNumber"] != other[0]["serialNumber"]
    assert one[1]["documentNamespace"] != other[1]["documentNamespace"]


def test_documents_come_from_cached_inventories_without_blobs_or_tools(tmp_path) -> None:
    settings, made = make_settings(tmp_path), make_inventory()
    image = cache_inventory(settings, made)

    def no_tools() -> Any:
        raise AssertionError("the tools root was opened")

    class NoBlobs:
        def open_blob(self, digest: str) -> Any:
            raise AssertionError(f"blob {digest} was opened")

    found = sbom.documents(settings, NoBlobs(), image, no_tools)
    assert found == (sbom.render(made, "cyclonedx"), sbom.render(made, "spdx"))


def test_documents_are_kept_in_the_store_by_digest(tmp_path) -> None:
    settings, made = make_settings(tmp_path), make_inventory()
    kept: dict[str, bytes] = {}

    class Store:
        def open_blob(self, digest: str) -> Any:
            raise AssertionError(f"blob {digest} was opened")

        def put_document(self, content: bytes) -> str:
            digest = hashlib.sha256(content).hexdigest()
            kept[digest] = content
            return digest

    predicate = sbom.store_documents(settings, Store(), cache_inventory(settings, made))
    assert {form: kept[digest] for form, digest in predicate.items()} == {
        "cyclonedx": sbom.render(made, "cyclonedx"),
        "spdx": sbom.render(made, "spdx"),
    }
