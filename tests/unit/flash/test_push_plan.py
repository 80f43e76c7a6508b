"""Plans of pushes: a pure function of what a host has and what it is to have."""

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict

import pytest

from flash.config import Bundle, ConfigFile, read_bundle, render_bundle
from flash.push_plan import (
    FileChange,
    Held,
    PushPlan,
    SecretChanges,
    UnitStep,
    ValueChange,
    declaration_of,
    plan_push,
    render_plan,
)
from qtrade.manifest import RoleInputs
from qtrade.signing import ensure_key
from tests.fakes.examples import make_environment, make_host, make_image

pytestmark = pytest.mark.unit

INPUTS = {
    "files": [
        {"path": "net", "access": True, "units": [{"name": "net.service", "action": "reload"}]},
        {"path": "ssh/{key}", "each": "app_keys", "access": True, "units": []},
        {"path": "app", "units": [{"name": "app.service", "action": "reload"}], "template": "{{ app_port }}\n"},
        {"path": "db", "units": [{"name": "app.service", "action": "restart"}], "template": "{{ app_port }}\n"},
        {"path": "fstab", "reboot": True, "units": []},
    ],
    "values": {"app_port": {"type": "int", "default": 1}, "app_keys": {"type": "dict", "default": {}}},
    "secrets": [
        {"name": "token", "units": [{"name": "token.service"}]},
        {"name": "old", "units": [{"name": "old.service"}]},
    ],
}
IMAGE = make_image(inputs={"app": RoleInputs.model_validate(INPUTS)})


def bundle(values: dict[str, object] | None = None, **files: str) -> Bundle:
    made = (ConfigFile(path.replace("__", "/"), "0644", "root", "root", text) for path, text in files.items())
    return Bundle("rpc-1", IMAGE.id, tuple(made), values or {})


def plan(held: Bundle | None, wanted: Bundle, *, altered: Iterable[str] = (), **options: object) -> PushPlan:
    return plan_push(IMAGE, Held("4", held, frozenset(altered)), wanted, **options)  # type: ignore[arg-type]


def test_files_that_somebody_altered_are_mended() -> None:
    same = bundle(app="1", fstab="x")
    found = plan(same, same, altered=["app", "stray"])
    assert found.files == (FileChange("app", "mended"), FileChange("stray", "mended"))
    assert found.units == (UnitStep("app.service", "reload"),)
    assert not found.is_empty


def test_the_whole_plan() -> None:
    held = bundle({"app_port": 1, "gone": [1]}, net="1", app="1", db="1", ssh__deploy="k")
    wanted = bundle({"app_port": 2, "new": "x"}, net="2", app="2", db="2", fstab="x")
    changes = SecretChanges({"token": "changed"}, ("old",))
    assert plan(held, wanted, secrets=changes) == PushPlan(
        host="rpc-1",
        version="0.1.0",
        generation="4",
        files=tuple(
            FileChange(path, change)
            for path, change in {
                "app": "changed",
                "db": "changed",
                "fstab": "new",
                "net": "changed",
                "ssh/deploy": "gone",
            }.items()
        ),
        values=(ValueChange("app_port", 1, 2), ValueChange("gone", [1], None), ValueChange("new", None, "x")),
        secrets={"token": "changed"},
        forget=("old",),
        units=(
            UnitStep("app.service", "restart"),
            UnitStep("net.service", "reload"),
            UnitStep("token.service", "restart"),
            UnitStep("old.service", "restart"),
        ),
        if_new=("token.service",),
        guarded=("net", "ssh/deploy"),
        reboot=("fstab",),
    )


def test_what_is_the_same_is_no_change() -> None:
    same = bundle({"app_port": 1}, net="1")
    assert plan(same, same).is_empty
    assert render_plan(plan(same, same)) == "rpc-1: nothing to change; generation 4 of 0.1.0 is current"
    assert not plan(same, same, to="3").is_empty
    assert not plan(same, same, secrets=SecretChanges(forget=("old",))).is_empty


def test_of_a_host_that_does_not_say_everything_is_new_and_no_value_is_known() -> None:
    found = plan(None, bundle({"app_port": 2}, app="2"))
    assert found.files == (FileChange("app", "new"),)
    assert found.values == (ValueChange("app_port", None, 2, is_known=False),)
    assert "value app_port: (the host does not say) -> 2" in render_plan(found, shows_values=True)


def test_the_plan_for_people() -> None:
    held = bundle({"app_port": 1}, net="1", fstab="1")
    wanted = bundle({"app_port": 2}, net="2", fstab="2")
    text = render_plan(plan(held, wanted, secrets=SecretChanges({"token": "changed"}, ("old",))), shows_values=True)
    assert text.splitlines() == [
        "push rpc-1: a new generation, from 4, for 0.1.0",
        "  changed  file fstab          read at boot only: the change waits for a reboot",
        "  changed  file net            undone by the host itself unless it can be reached anew afterwards",
        "  send     secret token        since changed",
        "  remove   secret old          the host's manifest does not name it",
        "  reload   unit net.service    it reads what changes",
        "  restart  unit token.service  if the host holds another secret",
        "  restart  unit old.service    it reads what changes",
        "  value app_port: 1 -> 2",
    ]
    assert "value app_port" not in render_plan(plan(held, wanted))
    assert render_plan(plan(held, wanted, to="3")).startswith("push rpc-1: back to generation 3, from 4")


def test_a_plan_is_a_document() -> None:
    json.dumps(asdict(plan(bundle(net="1"), bundle(net="2"), secrets=SecretChanges({"token": "changed"}))))


@pytest.mark.parametrize(
    ("path", "declared"),
    [
        ("net", "net"),
        ("ssh/deploy", "ssh/{key}"),
        ("ssh/", None),
        ("ssh/a/b", None),
        ("ssh", None),
        ("network", None),
    ],
)
def test_a_path_has_the_declaration_that_the_agent_finds_too(path, declared) -> None:
    found = declaration_of(IMAGE, path)
    assert (found.path if found else None) == declared


def test_a_bundle_is_read_as_it_was_rendered(tmp_path) -> None:
    made = render_bundle(make_host(config={"app_port": 7}), make_environment(), IMAGE)
    assert made.values == {"app_port": 7, "app_keys": {}}
    envelope = made.envelope(3, ensure_key(tmp_path, "job"))
    assert read_bundle(envelope) == made


@pytest.mark.parametrize("envelope", [None, {}, {"payload": "%"}, {"payload": base64.b64encode(b"[]").decode()}])
def test_a_malformed_bundle_is_none(envelope) -> None:
    assert read_bundle(envelope) is None
