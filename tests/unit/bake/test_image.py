"""Putting an image together, signing it, and reading what roles declare."""

import pytest
import yaml

from bake.components import Fetched
from bake.image import assemble, read_role_inputs, sign
from qtrade.errors import BadInput, Refused
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.signing import STATEMENT_TYPE, ensure_key, open_envelope
from qtrade.store import BlobRecord
from tests.fakes.examples import make_image, make_recipe, make_settings, sha

pytestmark = pytest.mark.unit

MIB = 2**20


@pytest.fixture
def settings(tmp_path) -> Settings:
    return make_settings(tmp_path)


def record(name: str, size: int = MIB) -> BlobRecord:
    return BlobRecord(sha(f"key {name}"), name, sha(name), size, sha(f"verity {name}"), facts={"release": "6.12.1"})


def made(settings: Settings, tmp_path, size: int = MIB) -> Image:
    parts = {
        name: Fetched(name, tmp_path, sha(name), "1", standin=name == "parts") for name in ("parts", "agent", "unused")
    }
    return assemble(
        settings,
        make_recipe(),
        "0.1.0",
        layers=tuple(record(name, size) for name in ("base", "host", "app", "tool", "top")),
        kernel=record("kernel"),
        initrd=record("initrd"),
        installer=record("installer"),
        components=parts,
    )


def test_an_image_names_its_parts(settings, tmp_path) -> None:
    image = made(settings, tmp_path)
    assert [(layer.role, layer.needs) for layer in image.layers] == [
        ("base", ()),
        ("host", ("base",)),
        ("app", ("host",)),
        ("tool", ("host",)),
        ("top", ("app",)),
    ]
    assert [(part.name, part.standin) for part in image.components] == [("agent", False), ("parts", True)]
    assert (image.cmdline, image.kernel_release, image.epoch) == ("quiet", "6.12.1", make_recipe().epoch)
    assert list(image.inputs) == ["host", "app", "tool", "top"]


def test_an_image_over_its_budget_is_refused_with_the_size_of_each_layer(settings, tmp_path) -> None:
    with pytest.raises(Refused, match="the image is 102 MiB, over the budget of 100 MiB") as caught:
        made(settings, tmp_path, size=20 * MIB)
    assert caught.value.details.splitlines()[0] == "  base: 20.0 MiB"


def test_a_published_image_is_signed_in_two_ways(tmp_path) -> None:
    key, image = ensure_key(tmp_path, "build"), make_image()
    published = sign(image, key)
    assert key.public.verify(published.list_sig, image.list_text().encode())
    statement = open_envelope(published.envelope, STATEMENT_TYPE, (key.public,))
    assert statement["subject"] == [
        {"name": "list", "digest": {"sha256": image.id}},
        {"name": "image.json", "digest": {"sha256": sha(published.image_text)}},
    ]
    assert (statement["predicate"]["name"], statement["predicate"]["version"]) == ("demo", "0.1.0")


def declare(settings: Settings, document: object, **templates: str) -> None:
    folder = settings.project / "ansible/roles/app/config"
    (folder / "templates").mkdir(parents=True)
    (folder / "inputs.yml").write_text(yaml.safe_dump(document))
    for name, text in templates.items():
        (folder / "templates" / f"{name}.env.j2").write_text(text)


def test_a_role_without_inputs_declares_nothing(settings) -> None:
    inputs = read_role_inputs(settings, "app", {})
    assert (inputs.files, inputs.values, inputs.secrets) == ((), {}, ())


def test_templates_travel_with_the_declaration(settings) -> None:
    declare(settings, {"files": [{"path": "app.env"}], "values": {"port": {"type": "int"}}}, app="PORT={{ port }}\n")
    inputs = read_role_inputs(settings, "app", {})
    assert inputs.files[0].template == "PORT={{ port }}\n"


def test_a_unit_may_have_an_argument_of_the_role_in_its_name(settings) -> None:
    unit = {"name": "app@{{ app_major }}.service"}
    declare(settings, {"files": [{"path": "app.env", "units": [unit]}]}, app="")
    with pytest.raises(BadInput, match=r"inputs\.yml is not valid") as caught:
        read_role_inputs(settings, "app", {})
    assert "app_major" in caught.value.details
    defaults = settings.project / "ansible/roles/app/defaults/main.yml"
    defaults.parent.mkdir()
    defaults.write_text('app_major: "7"\n')
    for given, wanted in (({}, "app@7.service"), ({"app_major": "8"}, "app@8.service")):
        assert read_role_inputs(settings, "app", given).files[0].units[0].name == wanted


def test_a_declared_file_needs_its_template(settings) -> None:
    declare(settings, {"files": [{"path": "app.env"}]})
    with pytest.raises(BadInput, match=r"app\.env has no template") as caught:
        read_role_inputs(settings, "app", {})
    assert caught.value.resolution.endswith("config/templates/app.env.j2")


@pytest.mark.parametrize("document", [{"fils": []}, {"values": {"x": {"type": "float"}}}, "text", ["list"]])
def test_a_wrong_declaration_is_refused(settings, document) -> None:
    declare(settings, document)
    with pytest.raises(BadInput, match=r"inputs\.yml is not valid"):
        read_role_inputs(settings, "app", {})
