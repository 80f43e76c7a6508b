"""Which layers are checked together for whom, and when an earlier pass holds: no change of what a spec can see is a hit by mistake."""

from pathlib import Path

import pytest

from bake.check_image import ImageCheck, count_image_specs, image_check_key, list_image_checks
from qtrade.errors import BadInput, Refused
from qtrade.settings import Settings
from qtrade.store import BlobRecord
from tests.fakes.examples import make_recipe, make_settings, recipe_fields, sha
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

RECIPE = make_recipe()
ROLES = ("base", "host", "app", "tool", "top")
DONE = {name: BlobRecord(sha(name), name, sha(f"bytes of {name}")) for name in ROLES}
# The specs of tool, which stands on host, need app, which does too; top, on app, is not there.
SEEN = ("base", "host", "app", "tool")


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    (settings.project / "ansible/specs.ini").write_text("[pytest]\n")
    write_spec(settings, "app", "layer")
    write_spec(settings, "tool", "image", needs="[app]")
    return settings


def write_spec(settings: Settings, role: str, mark: str, *, needs: str = "", interfaces: str = "") -> Path:
    path = settings.project / "ansible/roles" / role / f"specs/test_{role}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"@pytest.mark.{mark}\ndef test_one(host): ...\n")
    met = {name: value for name, value in (("needs", needs), ("interfaces", interfaces)) if value}
    if met:
        path.with_name("image.yml").write_text("".join(f"{name}: {value}\n" for name, value in met.items()))
    return path


def key_of_tool(settings: Settings, done: dict[str, BlobRecord]) -> str:
    (check,) = list_image_checks(settings, RECIPE)
    return image_check_key(settings, check, done)


def passed(skipped: str = "") -> list[BlobRecord]:
    """Return what is remembered of the checks of two roles."""
    one, other = {"ran": "7", "skipped": skipped}, {"ran": "2", "skipped": ""}
    return [BlobRecord(sha("one"), "tool", facts=one), BlobRecord(sha("other"), "app", facts=other)]


def declaring(role: str, text: str) -> dict[str, BlobRecord]:
    """Return the layers with another declaration of a role, and other bytes of its layer."""
    return {**DONE, role: BlobRecord(sha(role), role, sha(text), facts={"interfaces": text})}


def test_specs_run_on_what_their_role_declares_and_what_that_stands_on(settings: Settings) -> None:
    assert list_image_checks(settings, RECIPE) == (ImageCheck("tool", SEEN),)


def test_a_role_says_whom_its_specs_need(settings: Settings) -> None:
    spec = write_spec(settings, "top", "image")
    with pytest.raises(BadInput, match=r"top/specs: there is no image\.yml") as caught:
        list_image_checks(settings, RECIPE)
    assert "needs: [ROLE]" in caught.value.resolution
    write_spec(settings, "top", "image", needs="[]")
    with pytest.raises(BadInput, match=r"image\.yml is not a valid imagespecs") as caught:
        list_image_checks(settings, RECIPE)
    assert "name roles in `needs` or `interfaces`" in str(caught.value.details)
    write_spec(settings, "top", "image", needs="[app]", interfaces="[app]")
    with pytest.raises(BadInput, match=r"image\.yml is not a valid imagespecs") as caught:
        list_image_checks(settings, RECIPE)
    assert "take it out of `interfaces`" in str(caught.value.details)
    write_spec(settings, "top", "layer", needs="[app]")
    with pytest.raises(BadInput, match="no spec has the mark image"):
        list_image_checks(settings, RECIPE)
    spec.with_name("image.yml").unlink()
    assert len(list_image_checks(settings, RECIPE)) == 1


def test_a_role_whose_specs_need_a_layer_that_is_not_baked_is_refused(settings: Settings) -> None:
    layers = [layer for layer in recipe_fields()["layers"] if layer["role"] in ("host", "tool")]
    with pytest.raises(BadInput, match="the specs of tool need layer app, which the recipe does not have"):
        list_image_checks(settings, make_recipe(layers=layers))


def test_roles_without_such_specs_need_no_check(settings: Settings) -> None:
    write_spec(settings, "tool", "layer").with_name("image.yml").unlink()
    assert list_image_checks(settings, RECIPE) == ()


def test_specs_that_read_interfaces_run_without_the_layers_around_them(settings: Settings) -> None:
    write_spec(settings, "tool", "image", interfaces="[app, host]")
    (check,) = list_image_checks(settings, RECIPE)
    # Tool stands on host, whose layer is there anyway.
    assert check == ImageCheck("tool", ("base", "host", "tool"), ("app",))
    assert check.looks_at == {"base", "host", "tool", "app"}


def test_a_declaration_that_the_specs_read_is_in_the_key_and_the_rest_of_its_layer_is_not(settings: Settings) -> None:
    write_spec(settings, "tool", "image", interfaces="[app]")
    one = key_of_tool(settings, declaring("app", "port 1"))
    assert key_of_tool(settings, declaring("app", "port 2")) != one
    other_bytes = {**DONE, "app": BlobRecord(sha("app"), "app", sha("other"), facts={"interfaces": "port 1"})}
    assert key_of_tool(settings, other_bytes) == one


def test_all_specs_count(settings: Settings) -> None:
    reporter = RecordingReporter()
    assert count_image_specs(RECIPE, passed(), reporter) == 9
    assert reporter.lines == []


@pytest.mark.parametrize("role", ROLES)
def test_a_layer_that_the_specs_see_is_in_the_key_and_no_other(settings: Settings, role: str) -> None:
    other = {**DONE, role: BlobRecord(sha(role), role, sha("other bytes"))}
    is_same = key_of_tool(settings, other) == key_of_tool(settings, DONE)
    assert is_same is (role not in SEEN)


@pytest.mark.parametrize(
    "path",
    ["ansible/roles/tool/specs/test_tool.py", "ansible/roles/tool/specs/more.py", "ansible/specs.ini"],
)
def test_what_runs_the_specs_is_in_the_key(settings: Settings, path: str) -> None:
    before = key_of_tool(settings, DONE)
    with (settings.project / path).open("a") as sink:
        sink.write("# more\n")
    assert key_of_tool(settings, DONE) != before


def test_another_declaration_is_another_check(settings: Settings) -> None:
    before = key_of_tool(settings, DONE)
    write_spec(settings, "tool", "image", needs="[app, top]")
    assert list_image_checks(settings, RECIPE) == (ImageCheck("tool", ROLES),)
    assert key_of_tool(settings, DONE) != before


def test_the_same_layers_checked_for_another_role_are_another_check(settings: Settings) -> None:
    keys = {image_check_key(settings, ImageCheck(role, SEEN), DONE) for role in ("tool", "other")}
    assert len(keys) == 2


def test_a_skipped_spec_is_said_and_refused_without_standins() -> None:
    records, reporter = passed(skipped="  tool: test_one: no program to load it with"), RecordingReporter()
    assert count_image_specs(RECIPE, records, reporter) == 9
    assert "NOT PROVEN: specs of tool were skipped" in reporter.lines[0]
    assert "no program to load it with" in reporter.lines[0]
    real = make_recipe(
        components={name: {**fields, "standin": False} for name, fields in recipe_fields()["components"].items()}
    )
    with pytest.raises(Refused, match="recipe demo has no stand-ins, but specs of tool were skipped") as caught:
        count_image_specs(real, records, RecordingReporter())
    assert caught.value.details == "  tool: test_one: no program to load it with"
