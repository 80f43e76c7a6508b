"""SBOM, CVE scan and diff of images that were really baked; the EROFS reader against blobs that were really made."""

import hashlib
import json
import os
import socket
import stat
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from bake import sbom
from bake.cve.report import read_inventory, scan_versions
from bake.cve.snapshot import fetch_snapshot
from bake.diff import compare_images
from bake.inventory import image_inventory
from bake.inventory.erofs import ErofsReader
from bake.inventory.make import layer_inventory, read_layer
from bake.pack import pack_layer, sha256_file
from qtrade.errors import TrustError
from qtrade.settings import load_settings
from qtrade.store import LocalStore
from qtrade.toolsroot import ToolsRoot, open_tools
from tests.fakes.tiny import TinyProject, make_tiny_project
from tests.fakes.tracker import issue, serve_tracker

pytestmark = pytest.mark.integration

EPOCH = 1763856000
PING = struct.pack("<IIIII", 2 << 24 | 1, 1 << 13, 0, 0, 0)


@pytest.fixture(scope="module")
def tools() -> ToolsRoot:
    return open_tools(load_settings())


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A tree with one of everything that a layer may hold."""
    root = tmp_path_factory.mktemp("source") / "tree"
    many = root / "usr/share/many"
    many.mkdir(parents=True)
    for number in range(700):
        (many / f"a-rather-long-name-so-that-the-folder-takes-blocks-{number}").touch()
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/bash\n")
    (root / "etc/link").symlink_to("/usr/share/" + "x" * 300)
    (root / "etc/umlaut-ä").write_text("ü")
    (root / "etc/empty").touch()
    program = root / "usr/ping"
    program.write_bytes(os.urandom(300_000))
    os.chown(program, 70_000, 42)
    program.chmod(0o4755)
    os.setxattr(program, "security.capability", PING)
    os.setxattr(program, "user.note", b"n" * 200)
    os.link(program, root / "usr/same")
    (root / "usr/opaque").mkdir(mode=0o750)
    os.setxattr(root / "usr/opaque", "trusted.overlay.opaque", b"y")
    os.mknod(root / "usr/gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(root / "usr/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(root / "usr/fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(root / "s"))
    (root / "s").rename(root / "usr/socket")
    return root


@pytest.fixture(scope="module")
def blob(tools, source, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("blob") / "layer.erofs"
    return pack_layer(tools, source, target, name="test", epoch=EPOCH).path


def test_the_reader_sees_what_was_packed(source, blob) -> None:
    found = dict(ErofsReader(blob).walk())
    expected = {str(path.relative_to(source)): path.lstat() for path in source.rglob("*")}
    # tar packs no sockets.
    del expected["usr/socket"]
    assert found.keys() == expected.keys()
    assert len(found) > 700
    for path, facts in expected.items():
        inode = found[path]
        assert (inode.mode, inode.uid, inode.gid) == (facts.st_mode, facts.st_uid, facts.st_gid), path
        if stat.S_ISREG(facts.st_mode):
            assert inode.size == facts.st_size, path
        if stat.S_ISLNK(facts.st_mode):
            assert inode.target == str((source / path).readlink())
    assert found["usr/ping"].nid == found["usr/same"].nid
    assert found["usr/ping"].xattrs == {"security.capability": PING, "user.note": b"n" * 200}
    assert found["usr/gone"].device == 0
    assert found["usr/null"].device == os.makedev(1, 3)


def test_the_inventory_has_digests_texts_and_what_the_overlay_hides(tools, source, blob, tmp_path) -> None:
    made = read_layer(tools, blob, sha256_file(blob), tmp_path)
    program = made.nodes["usr/ping"]
    assert program.content == hashlib.sha256((source / "usr/ping").read_bytes()).hexdigest()
    assert (program.mode, program.uid, program.xattrs["security.capability"]) == (0o4755, 70_000, PING.hex())
    assert made.nodes["usr/opaque"].opaque
    assert (made.nodes["usr/gone"].kind, made.nodes["usr/null"].kind) == ("whiteout", "char")
    assert made.texts == {"etc/passwd": "root:x:0:0::/root:/bin/bash\n"}
    assert list(tmp_path.iterdir()) == []


def test_a_blob_that_is_not_what_its_digest_says_has_no_inventory(tmp_path, blob) -> None:
    store = LocalStore(tmp_path / "store")
    store.objects.put(f"blobs/{'0' * 64}", blob.read_bytes())
    with pytest.raises(TrustError, match="damaged in the store"):
        layer_inventory(load_settings(), store, "0" * 64)


@pytest.fixture(scope="module")
def tiny(tools, tmp_path_factory) -> TinyProject:
    """The smallest recipe, baked as 1.0 and, with changes in role two, as 2.0."""
    project = make_tiny_project(load_settings(), tmp_path_factory.mktemp("tiny"))
    project.bake("1.0")
    copy = "ansible.builtin.copy"
    project.add_task("two", copy, content="vm.swappiness=1\n", dest="/usr/lib/sysctl.d/90-two.conf", mode="0644")
    project.add_task("two", copy, content="#!/bin/sh\n", dest="/usr/bin/two", mode="4755")
    unit = "[Socket]\nListenStream=0.0.0.0:4242\n[Install]\nWantedBy=sockets.target\n"
    project.add_task("two", copy, content=unit, dest="/usr/lib/systemd/system/two.socket", mode="0644")
    wants = "/etc/systemd/system/sockets.target.wants"
    project.add_task("two", "ansible.builtin.file", path=wants, state="directory", mode="0755")
    where = {"src": "/usr/lib/systemd/system/two.socket", "dest": f"{wants}/two.socket", "state": "link"}
    project.add_task("two", "ansible.builtin.file", **where)
    project.add_task("two", "ansible.builtin.file", path="/usr/share/tiny/two.txt", state="absent")
    project.bake("2.0")
    return project


@pytest.fixture
def snapshot(tiny) -> Iterator[None]:
    """A snapshot in which jq of every version has an open flaw and one that a later version mends."""
    flaws = {
        "CVE-2026-0001": issue("resolved", "99:1"),
        "CVE-2026-0002": issue(),
        "CVE-2026-0003": issue("resolved", "0.1-1"),
    }
    with serve_tracker({"jq": flaws}) as server:
        fetch_snapshot(tiny.settings, server.url, datetime.now(UTC))
        yield


def test_the_sbom_of_a_baked_image_is_valid_and_repeats_byte_for_byte(tiny) -> None:
    image = read_inventory(tiny.settings, tiny.store, "tiny", "1.0").image
    cyclonedx, spdx = sbom.documents(tiny.settings, tiny.store, image)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx.decode()) is None
    assert validate_full_spdx_document(JsonLikeDictParser().parse(json.loads(spdx))) == []
    for path in (tiny.settings.cache_dir / "inventories").iterdir():
        path.unlink()
    assert sbom.documents(tiny.settings, tiny.store, image) == (cyclonedx, spdx)


def test_the_sbom_lists_the_packages_that_dpkg_lists_and_their_layers(tiny) -> None:
    inventory = read_inventory(tiny.settings, tiny.store, "tiny", "1.0")
    text = inventory.tree.text("var/lib/dpkg/status")
    assert text is not None
    assert len(inventory.packages) == text.count("\nStatus: install ok installed\n") > 100
    layers = {package.name: package.layer for package in inventory.packages}
    assert (layers["jq"], layers["bash"]) == ("one", "base")
    assert any(package.source == "linux" for package in inventory.packages)
    assert sum(bool(package.licences) for package in inventory.packages) > len(inventory.packages) / 2


def test_diff_says_what_the_change_of_a_role_means(tiny) -> None:
    before, after = (read_inventory(tiny.settings, tiny.store, "tiny", version) for version in ("1.0", "2.0"))
    diff = compare_images(tiny.settings, before, after)
    assert (diff.packages.count, diff.users.count, diff.kernel.count, diff.cmdline.count) == (0, 0, 0, 0)
    assert [(item.name, item.after) for item in diff.sysctls.added] == [("vm.swappiness", "1")]
    assert [(item.name, item.after) for item in diff.privileged.added] == [("usr/bin/two", "0:0 4755 setuid")]
    assert diff.units.enabled == ("sockets.target.wants/two.socket",)
    assert [item.name for item in diff.ports.added] == ["4242/tcp usr/lib/systemd/system/two.socket"]
    assert [layer.role for layer in diff.layers if layer.changed] == ["two"]
    (files,) = diff.files
    assert files.role == "two"
    assert [item.name for item in files.changes.removed] == ["usr/share/tiny/two.txt"]


def test_an_old_image_is_scanned_without_rebuilding(tiny, snapshot) -> None:
    built = list(tiny.reporter.steps)
    reports = scan_versions(tiny.settings, tiny.store, "tiny", None, None, now=datetime.now(UTC), trusted=())
    assert tiny.reporter.steps == built
    for report in reports:
        found = {item.finding.cve: item.blocks for item in report.scan.verdict.judged}
        assert found == {"CVE-2026-0001": True, "CVE-2026-0002": False}
        assert all("jq" in item.finding.binaries for item in report.scan.verdict.judged)
    assert [report.scan.image.version for report in reports] == ["1.0", "2.0"]


def test_an_inventory_is_made_once(tiny) -> None:
    image = read_inventory(tiny.settings, tiny.store, "tiny", "1.0").image
    image_inventory(tiny.settings, tiny.store, image)

    class NoBlobs:
        def open_blob(self, digest: str) -> Path:
            raise AssertionError(f"blob {digest} was opened again")

    assert image_inventory(tiny.settings, NoBlobs(), image).packages
