"""`qtrade rollout` and `qtrade images unblock` as people type them, on a simulated fleet."""

import re
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from flash.judge.record import Judgement, Verdict
from flash.rollout import control, undoing, wiring
from flash.rollout.control import lease_name
from flash.rollout.ports import Ports
from flash.rollout.waves import RolloutPlan
from qtrade.errors import Refused, UsageError
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.leases import Leases
from qtrade.trust.fleet_facts import Rollout
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.statements import verify_statements
from tests.fakes.cli import Cli
from tests.fakes.examples import host_fields, make_settings
from tests.fakes.releases import Room
from tests.fakes.rollout.fleet import NEW, OLD, STEPS, Fault, Fleet, Rules
from tests.fakes.rollout.ports import sim_ports

pytestmark = pytest.mark.unit

ENV = ("--env", "development")
START = ("rollout", "start", *ENV, "--version", NEW)
POLICY = {"first_soak_s": 1, "canary_soak_s": 1, "judge_every_s": 1, "steps": STEPS}


@dataclass
class World:
    """Four hosts, two versions in the store, and a fleet that is made when the first rollout is planned."""

    settings: Settings
    room: Room
    rules: Rules = field(default_factory=Rules)
    fleet: Fleet | None = None
    blind: bool = False

    def ports(self, _: Settings, plan: RolloutPlan, *__: Any) -> Ports:
        self.fleet = self.fleet or Fleet(plan.members, self.rules)
        ports = sim_ports(self.fleet, times=50)
        if not self.blind:
            return ports
        return Ports(ports.hands, ports.observe, lambda *_: Judgement(Verdict.INCONCLUSIVE), ports.clock)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


@pytest.fixture
def world(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    settings = make_settings(tmp_path)
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    monkeypatch.delenv("QTRADE_KEYS_DIR", raising=False)
    assert cli("keys", "init", "--root-key", str(tmp_path / "usb/root.key"))[0] == 0
    for name, role in (("rpc-1", "rpc"), ("rpc-2", "rpc"), ("rpc-3", "rpc"), ("val-1", "validator")):
        path = settings.project / f"manifests/hosts/{name}.yaml"
        path.write_text(yaml.safe_dump(host_fields(name=name, role=role)))
    rules = {"schema_version": 1, "name": "development", "allow_standins": True, "rollout": POLICY}
    (settings.project / "manifests/environments/development.yaml").write_text(yaml.safe_dump(rules))
    room = Room(settings)
    for version in (OLD, NEW):
        room.publish(version, cmdline=version)
    world = World(settings, room)
    monkeypatch.setattr(wiring, "ports_for", world.ports)
    return world


def attested(world: World, version: str) -> tuple[Rollout, ...]:
    """Return the signed statements of committed rollouts of a version."""
    store = open_store(world.settings)
    image = Image.model_validate_json(store.read("demo", version).image_text).id
    return verify_statements(image, store.attestations(image), ensure_keyring(world.settings).trust).rollouts


def test_the_plan_is_shown_and_nothing_done(cli: Cli, world: World) -> None:
    code, out, _ = cli(*START, "--dry-run")
    assert code == 0
    assert "rollout of demo 0.2.0 to development: 4 host(s), 3 wave(s)" in out
    assert "redfish/standard/rpc, redfish/standard/validator" in out
    plan = cli.json(*START, "--dry-run")
    assert [wave["hosts"] for wave in plan["waves"]] == [["rpc-1"], ["val-1"], ["rpc-2", "rpc-3"]]
    assert world.fleet is None
    assert cli("rollout", "status", *ENV)[0] == 4


def test_a_rollout_goes_through_and_is_undone(cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cli.json(*START, "--yes")
    assert (found["phase"], found["counts"]) == ("DONE", {"COMMITTED": 4})
    assert [wave["verdict"] for wave in found["waves"]] == ["pass"] * 3
    (said,) = attested(world, NEW)
    assert (said.environment, said.version, said.hosts) == ("development", NEW, ("rpc-1", "rpc-2", "rpc-3", "val-1"))
    assert [(one["version"], one["phase"]) for one in cli.json("status")["rollouts"]] == [(NEW, "DONE")]
    assert f"rollout to development: demo {NEW} DONE" in cli("status")[1]
    code, out, _ = cli("rollout", "status", *ENV, "--watch", "--timeout", "1")
    assert code == 0
    assert "phase:  DONE, wave 3 of 3" in out
    monkeypatch.setattr(undoing, "ask_return", lambda _, __, name, to: undoing.HostReturn(name, to or OLD))
    assert cli.json("rollout", "undo", *ENV, "--dry-run")["hosts"][0]["to"] == OLD
    assert cli.json("rollout", "undo", *ENV, "--yes")["phase"] == "UNDONE"
    assert world.fleet is not None
    assert world.fleet.versions() == {OLD: 4}


def test_a_controller_killed_before_it_signed_lets_the_next_start_do_it(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(control, "attest_rollout", Mock(side_effect=KeyboardInterrupt))
        assert cli(*START, "--yes")[0] == 130
    assert cli.json("rollout", "status", *ENV)["phase"] == "DONE"
    assert attested(world, NEW) == ()
    assert world.fleet is not None
    boots = {name: host.boots for name, host in world.fleet.hosts.items()}
    code, _, err = cli(*START, "--yes")
    assert code == 0
    assert f"{NEW} was committed to development already, and that was not signed" in err
    (said,) = attested(world, NEW)
    assert said.hosts == ("rpc-1", "rpc-2", "rpc-3", "val-1")
    assert {name: host.boots for name, host in world.fleet.hosts.items()} == boots
    # What is signed is not signed twice.
    assert cli(*START, "--yes")[0] == 0
    assert said in attested(world, NEW)
    assert len({one.rollout for one in attested(world, NEW)}) == len(attested(world, NEW))


def test_the_page_is_served_by_the_very_command_that_rolls_out(
    cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def look(*_: Any, **__: Any) -> Any:
        url = re.search(r"shown at (http://\S+);", capsys.readouterr().err)
        assert url
        seen.append(urllib.request.urlopen(f"{url[1]}/metrics").read())
        raise Refused("seen")

    monkeypatch.setattr(control, "start", look)
    assert cli(*START, "--yes", "--serve", "127.0.0.1:0")[0] == Refused.exit_code
    assert b"# TYPE qtrade_rollout" in seen[0]
    code, _, err = cli(*START, "--yes", "--serve", "here")
    assert code == UsageError.exit_code
    assert "--serve here is no [ADDRESS:]PORT" in err


def test_an_undo_that_one_host_does_not_fit_is_refused(cli: Cli, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cli(*START, "--yes")
    against = {"rpc-2": ("its ledger was written by a later Agave",)}
    monkeypatch.setattr(
        undoing, "ask_return", lambda *given: undoing.HostReturn(given[2], OLD, against.get(given[2], ()))
    )
    code, _, err = cli("rollout", "undo", *ENV, "--yes")
    assert code == 7
    assert "1 of 4 host(s) may not go back" in err
    assert "rpc-2: its ledger was written by a later Agave" in err
    assert world.fleet is not None
    assert world.fleet.versions() == {NEW: 4}


def test_a_bad_version_is_blocked_everywhere_until_somebody_lifts_it(cli: Cli, world: World) -> None:
    world.rules = Rules(fault=Fault())
    code, out, err = cli(*START, "--yes")
    assert code == 9
    assert "finding" in out
    assert "failed: gate errors on" in err
    assert world.fleet is not None
    assert world.fleet.versions() == {OLD: 4}
    assert cli("rollout", "status", *ENV, "--watch")[0] == 1
    code, _, err = cli(*START, "--yes")
    assert code == 7
    assert "demo 0.2.0 is blocked: gate errors on" in err
    code, _, err = cli("images", "promote", NEW, "--recipe", "demo", "--to", "dev", "--yes")
    assert code == 7
    assert "a rollout found it bad: gate errors on" in err
    listed = {one["version"]: one["blocked"] for one in cli.json("images", "list")["images"]}
    assert listed[OLD] == ""
    assert "gate errors" in listed[NEW]
    assert "gate errors on" in cli("images", "list")[1]
    lifted = cli.json("images", "unblock", NEW, "--recipe", "demo", "--reason", "a false alarm", "--yes")
    assert lifted["lifted"] == "a false alarm"
    assert cli("images", "unblock", NEW, "--recipe", "demo", "--reason", "again", "--yes")[0] == 4
    world.fleet, world.rules = None, Rules()
    assert cli.json(*START, "--yes")["phase"] == "DONE"


def test_pause_resume_and_abort(cli: Cli, world: World) -> None:
    world.blind = True
    code, _, err = cli(*START, "--yes")
    assert code == 7
    assert "is paused: the judge cannot tell" in err
    assert "is paused" in cli(*START, "--yes")[2]
    world.blind = False
    assert cli.json("rollout", "resume", *ENV, "--yes")["phase"] == "DONE"
    assert cli("rollout", "abort", *ENV, "--yes")[0] == 4
    assert cli("rollout", "pause", *ENV)[0] == 4


def test_orders_go_to_who_holds_it_elsewhere(cli: Cli, world: World) -> None:
    world.blind = True
    cli(*START, "--yes")
    leases = Leases(open_store(world.settings).objects)
    leases.take(lease_name("development"), holder="op@far", pid=7, where="far:1")
    assert cli.json("rollout", "status", *ENV)["holder"] == "op@far (process 7)"
    code, _, err = cli("rollout", "abort", *ENV, "--yes")
    assert code == 0
    assert "abort ordered of op@far (process 7)" in err
    code, _, err = cli("rollout", "resume", *ENV, "--yes")
    assert code == 8
    assert "held by op@far" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("start", "--env", "nowhere"), 4, "development"),
        (("start", *ENV, "--version", "9.9.9"), 4, "versions of demo: 0.1.0, 0.2.0"),
        (("start", *ENV, "--recipe", "other"), 4, "name one of demo"),
        (("start", *ENV, "--version", NEW), 2, "add --yes"),
        (("resume", *ENV), 4, "has no open rollout"),
        (("undo", *ENV), 4, "had no rollout"),
        (("status", *ENV, "--watch", "--timeout", "0"), 4, "rollout start --env development"),
    ],
)
@pytest.mark.usefixtures("world")
def test_what_cannot_be_done_says_the_cure(cli: Cli, words: tuple[str, ...], code: int, says: str) -> None:
    found, _, err = cli("rollout", *words)
    assert (found, says in err) == (code, True), err


def test_watching_gives_up_in_time_and_says_whether_anybody_runs_it(cli: Cli, world: World) -> None:
    world.rules, world.blind = Rules(boot_s=0.01), True
    cli(*START, "--yes")
    code, _, err = cli("rollout", "status", *ENV, "--watch", "--timeout", "0")
    assert code == 1
    assert "is paused" in err


def test_hosts_of_another_recipe_count_as_healthy_and_a_recipe_has_to_be_named(cli: Cli, world: World) -> None:
    path = world.settings.project / "manifests/hosts/rpc-9.yaml"
    path.write_text(yaml.safe_dump(host_fields(name="rpc-9", recipe="other", os_disk={"serial": "9", "size_bytes": 9})))
    code, _, err = cli(*START, "--dry-run")
    assert code == 7
    assert "run images of demo, other" in err
    plan = cli.json(*START, "--recipe", "demo", "--dry-run")
    assert plan["others"] == {"rpc": 1}
    assert len(plan["members"]) == 4
    assert {one["account"] for one in plan["members"]} == {""}
