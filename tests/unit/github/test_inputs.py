"""Inputs of workflows: what a person may type, and what is refused before anything sees it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from flash.inventory import find_host
from flash.workflow_inputs import Asked, resolve_inputs
from qtrade.errors import BadInput, NotFound, QtradeError, Refused, UsageError
from qtrade.github.inputs import Flash, Push, next_version, parse_inputs, parse_layer, pins_of, values_of
from qtrade.github.table import read_workflow
from qtrade.settings import Settings
from tests.fakes.cli import Cli
from tests.fakes.examples import host_fields, make_settings
from tests.fakes.projects import write_project

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 29, 1, 11, tzinfo=UTC)
EVIL = [
    "$(touch pwned)",
    "`touch pwned`",
    "rpc-1; touch pwned",
    "rpc-1\ntouch pwned",
    "rpc-1\n",
    "rpc-1\r\nversion=9",
    "rpc-1 && true",
    "rpc-1|tee x",
    "--host",
    "-o",
    "../rpc-1",
    "rpc-1/../x",
    "rpc 1",
    "rpc-1'",
    'rpc-1"',
    "${{ secrets.X }}",
    "${IFS}",
    "\u202erpc",
    "rpс-1",  # noqa: RUF001 - the letter is Cyrillic, and that is the point
    "a" * 300,
]


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    settings = make_settings(tmp_path)
    write_project(
        settings,
        host={"address": "192.0.2.10", "config": {"bare_metal_addresses": ["192.0.2.10/24", "2001:db8::10/64"]}},
    )
    second = host_fields(name="rpc-2", address="rpc-2.example.org", config={"bare_metal_addresses": ["192.0.2.11/24"]})
    (settings.project / "manifests/hosts/rpc-2.yaml").write_text(yaml.safe_dump(second))
    for name, text in {"GITHUB_RUN_NUMBER": "417", "GITHUB_RUN_ATTEMPT": "1"}.items():
        monkeypatch.setenv(name, text)
    return settings


def resolve(settings: Settings, kind: str, layer: str = "", /, **inputs: object) -> dict[str, str]:
    return resolve_inputs(settings, Asked(kind, json.dumps(inputs), layer), NOW)


def test_a_layers_inputs_become_host_version_pins_and_values(settings) -> None:
    inputs = {
        "host": "2001:DB8:0::10",
        "version": "15.1.2+solana.4.2.0",
        "rust_version": "1.96.1",
        "unary_disabled": "on",
    }
    assert resolve(settings, "layer", "geyser", config_check="unchanged", image_version="", **inputs) == {
        "host": "rpc-1",
        "environment": "development",
        "recipe": "demo",
        "channel": "dev",
        "version": "2026.11.29.417",
        "pin": "geyser=15.1.2+solana.4.2.0,rust=1.96.1",
        "set": "geyser_unary_disabled=on",
        "branch": "pin-geyser",
    }


def test_postgres_names_the_package_of_its_major_version() -> None:
    inputs = parse_layer("postgres", json.dumps({"host": "rpc-1", "version": "17.13", "backup": "off"}))
    assert (pins_of("postgres", inputs), values_of("postgres", inputs)) == (
        "postgresql-17=17.13",
        "postgres_backup=off",
    )


def test_a_pair_moves_together() -> None:
    text = json.dumps(
        {"host": "a", "version": "4.3.0", "geyser_version": "16.0.0+solana.4.3.0", "rust_version": "1.97.0"}
    )
    assert pins_of("agave", parse_layer("agave", text)) == "agave=4.3.0,geyser=16.0.0+solana.4.3.0,rust=1.97.0"


@pytest.mark.parametrize("text", ["rpc-1", "192.0.2.10", "2001:db8::10", "2001:0db8:0:0::0010"])
def test_a_host_is_found_by_its_name_and_by_each_of_its_addresses(settings, text) -> None:
    assert find_host(settings, text).name == "rpc-1"
    assert find_host(settings, "RPC-2.example.org").name == "rpc-2"


def test_an_address_of_two_manifests_is_nobodys(settings) -> None:
    third = host_fields(name="rpc-3", address="192.0.2.99", config={"bare_metal_addresses": ["192.0.2.11/24"]})
    (settings.project / "manifests/hosts/rpc-3.yaml").write_text(yaml.safe_dump(third))
    with pytest.raises(Refused, match=r"192\.0\.2\.11 stands in the manifests of rpc-2, rpc-3"):
        resolve(settings, "rollback", host="192.0.2.11")
    with pytest.raises(NotFound, match=r"no host has the name or the address 192\.0\.2\.77"):
        resolve(settings, "rollback", host="192.0.2.77")


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(
    ("kind", "layer", "inputs"),
    [
        ("layer", "agave", {"host": "{}", "version": "4.2.1"}),
        ("layer", "agave", {"host": "rpc-1", "version": "{}"}),
        ("layer", "agave", {"host": "rpc-1", "image_version": "{}"}),
        ("layer", "agave", {"host": "rpc-1", "profile": "{}"}),
        ("layer", "geyser", {"host": "rpc-1", "rust_version": "{}"}),
        ("flash", "", {"host": "{}", "version": "0.1.0"}),
        ("flash", "", {"host": "rpc-1", "version": "{}"}),
        ("flash", "", {"host": "rpc-1", "version": "0.1.0", "door": "{}"}),
        ("flash", "", {"host": "rpc-1", "version": "0.1.0", "dry_run": "{}"}),
        ("push", "", {"host": "{}"}),
        ("push", "", {"environment": "{}"}),
        ("rollback", "", {"host": "rpc-1", "version": "{}"}),
        ("promote", "", {"recipe": "{}", "version": "0.1.0", "environment": "staging"}),
        ("promote", "", {"recipe": "lab", "version": "0.1.0", "environment": "{}"}),
        ("rollout", "", {"environment": "staging", "version": "{}"}),
        ("rollout", "", {"environment": "staging", "action": "{}", "version": "0.1.0"}),
        ("drift", "", {"environment": "{}"}),
        ("nightly", "", {"recipe": "{}"}),
    ],
)
def test_malicious_inputs_are_refused(settings, kind, layer, inputs, evil) -> None:
    filled = {name: evil if value == "{}" else value for name, value in inputs.items()}
    with pytest.raises((BadInput, NotFound)):
        resolve(settings, kind, layer, **filled)


@pytest.mark.parametrize("value", [["rpc-1"], {"a": 1}, 7, True])
def test_other_types_than_text_are_refused(value) -> None:
    with pytest.raises(BadInput, match="inputs are refused"):
        parse_inputs(Flash, json.dumps({"host": value, "version": "1"}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "no JSON object"),
        ("{", "no JSON object"),
        ('"x"', "no JSON object"),
        ("x" * 10_001, "has 10001 characters"),
        ('{"host": "a"}', "version: Field required"),
        ('{"host": "a", "version": "1", "more": "x"}', "more: Extra inputs"),
    ],
)
def test_what_is_no_input_is_named(text, told) -> None:
    with pytest.raises(BadInput) as raised:
        parse_inputs(Flash, text)
    assert told in raised.value.render()


def test_a_layer_takes_no_input_of_another() -> None:
    with pytest.raises(BadInput) as raised:
        parse_layer("postgres", '{"host": "a", "profile": "rpc"}')
    assert raised.value.brief == "input 'profile' is none of postgres's"
    with pytest.raises(UsageError, match="there is no layer"):
        parse_layer("nginx", "{}")


@pytest.mark.parametrize("given", [{}, {"host": "a", "environment": "staging"}])
def test_a_push_goes_to_a_host_or_to_an_environment(given) -> None:
    with pytest.raises(BadInput) as raised:
        parse_inputs(Push, json.dumps(given))
    assert "exactly one of host and environment" in raised.value.details


def test_versions_that_nobody_named_are_of_the_day_and_the_run() -> None:
    assert next_version("2026-11-29", "417", "1") == "2026.11.29.417"
    assert next_version("2026-01-02", "5", "3") == "2026.1.2.5.3"
    with pytest.raises(BadInput, match="GITHUB_RUN_NUMBER is '', which is no number"):
        next_version("2026-11-29", "", "1")


def test_other_workflows(settings) -> None:
    assert resolve(settings, "flash", host="rpc-1", version="0.1.0", door="in_place", first=True, dry_run="true") == {
        "host": "rpc-1",
        "environment": "development",
        "recipe": "demo",
        "channel": "dev",
        "version": "0.1.0",
        "door": "in_place",
        "first": "true",
        "dry_run": "true",
    }
    assert resolve(settings, "push", environment="staging", host="") == {
        "host": "",
        "environment": "staging",
        "target": "environment",
        "dry_run": "false",
    }
    assert resolve(settings, "promote", recipe="rpc", version="1.0", environment="staging")["channel"] == "staging"
    assert resolve(settings, "drift") == {"environments": '["development"]'}
    assert resolve(settings, "drift", environment="production") == {"environments": '["production"]'}
    with pytest.raises(QtradeError, match="there is no workflow 'x'"):
        resolve(settings, "x")


def test_a_night_without_inputs_takes_the_repositorys_recipe(settings) -> None:
    wanted = {"recipe": "production", "version": "2026.11.29.417", "promote": "true"}
    assert resolve_inputs(settings, Asked("nightly", "null", recipe="production"), NOW) == wanted
    assert resolve_inputs(
        settings, Asked("nightly", '{"recipe": "lab", "promote": false}', recipe="production"), NOW
    ) == {
        "recipe": "lab",
        "version": "2026.11.29.417",
        "promote": "false",
    }
    with pytest.raises(UsageError, match="which recipe"):
        resolve_inputs(settings, Asked("nightly", "{}"), NOW)


def test_checked_values_go_to_later_steps_and_refused_ones_do_not(settings, tmp_path, monkeypatch, capsys) -> None:
    output = tmp_path / "output"
    monkeypatch.setenv("QTRADE_PROJECT", str(settings.project))
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    monkeypatch.setenv("QTRADE_INPUTS", '{"host": "rpc-1", "version": ""}')
    cli = Cli(monkeypatch, capsys)
    assert cli("workflow", "inputs", "rollback")[0] == 0
    assert output.read_text() == "host=rpc-1\nenvironment=development\nrecipe=demo\nchannel=dev\nversion=\n"
    output.unlink()
    monkeypatch.setenv("QTRADE_INPUTS", json.dumps({"host": "rpc-1\nenvironment=staging"}))
    code, out, err = cli("workflow", "inputs", "rollback")
    assert (code, out) == (3, "")
    assert "host: String should match pattern" in err
    assert not output.exists()


@pytest.mark.parametrize(
    ("inputs", "action", "lane"),
    [
        ({"version": "0.2.0"}, "start", "work"),
        ({"version": "0.2.0", "dry_run": True}, "start_plan", "work"),
        ({"action": "resume", "dry_run": True}, "resume", "work"),
        ({"action": "undo"}, "undo", "work"),
        ({"action": "undo", "version": "0.1.0"}, "undo_to", "work"),
        ({"action": "undo", "version": "0.1.0", "dry_run": True}, "undo_plan_to", "work"),
        ({"action": "pause"}, "pause", "order"),
        ({"action": "abort"}, "abort", "order"),
        ({"action": "status"}, "status", "order"),
    ],
)
def test_an_order_has_a_lane_of_its_own(settings, inputs, action, lane) -> None:
    found = resolve(settings, "rollout", environment="staging", **inputs)
    assert (found["action"], found["lane"], found["environment"]) == (action, lane, "staging")
    ids = {
        step["id"]
        for step in read_workflow(Path(__file__).resolve().parents[3] / ".github/workflows/rollout.yml")["jobs"][
            "rollout"
        ]["steps"]
    }
    assert action in ids


def test_a_start_needs_a_version(settings) -> None:
    with pytest.raises(BadInput, match="inputs are refused") as raised:
        resolve(settings, "rollout", environment="staging")
    assert "a start needs a version" in raised.value.render()
