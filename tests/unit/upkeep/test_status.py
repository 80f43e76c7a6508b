"""All at a glance, from store and state directory: hosts, channels, flashes, drift, keys, versions."""

import json
import time
from dataclasses import asdict

import pytest
import yaml

from flash.drift.record import Told, record_of
from flash.fleet import Live, look_over, render_hosts
from flash.journal import Journal
from flash.ssh import pin_host_key
from flash.states import State
from qtrade import __version__
from qtrade.actor import Actor
from qtrade.errors import HostError
from qtrade.store import ChannelPointer, open_store
from qtrade.store.history import Deploy, Ending, History, Kind, Outcome
from qtrade.store.leases import Leases
from qtrade.trust.keyring import init_keys
from qtrade.upkeep.status import KeyStatus, RecipeStatus, read_status, render_status
from tests.fakes.cli import Cli
from tests.fakes.examples import host_fields, make_settings
from tests.fakes.projects import publish_image, write_project

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made = make_settings(tmp_path)
    write_project(made)
    monkeypatch.setenv("QTRADE_PROJECT", str(made.project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(made.state_dir))
    return made


def deployed(settings, wanted: str = "0.1.0", **ending) -> None:
    deploy = Deploy(Kind.FLASH, "development", "rpc-1", "demo", wanted, "a" * 64, {}, Actor("ada", "desk"))
    history = History(open_store(settings).objects)
    history.begin(deploy)
    history.end(deploy, Ending(**{"outcome": Outcome.DONE, "at": 1_790_000_000.0, "version": wanted, **ending}))


def test_a_host_with_its_deploys_its_flash_and_its_holder(settings) -> None:
    deployed(settings)
    Journal(settings.state_dir / "flashes/rpc-1/1.jsonl").write(State.ARMED, {})
    store = open_store(settings)
    Leases(store.objects).take("rpc-1", holder="bob@runner", pid=7, where="there")
    (row,) = look_over(settings, store)
    assert (row.name, row.environment, row.role, row.address, row.recipe, row.driver) == (
        "rpc-1", "development", "rpc", "192.0.2.10", "demo", "redfish",
    )  # fmt: skip
    assert (row.runs.version, row.state, row.held_by, row.quarantine, row.live) == (
        "0.1.0", "ARMED", "bob@runner", "", None,
    )  # fmt: skip
    assert render_hosts((row,)).splitlines()[1].split("  ")[-1] == "held by bob@runner"


def test_a_host_in_quarantine_and_one_without_a_manifest_that_can_be_read(settings) -> None:
    (settings.project / "manifests/hosts/rpc-2.yaml").write_text("schema_version: 1\n")
    leases = Leases(open_store(settings).objects)
    leases.release(leases.take("rpc-1", holder="ada", pid=1, where="x")[0], quarantine="ARMED: no answer")
    broken, row = look_over(settings, open_store(settings))
    assert (row.held_by, row.quarantine) == ("", "ARMED: no answer")
    assert broken.name == "rpc-2"
    assert "is not a valid host" in broken.problem
    assert "quarantined: ARMED: no answer" in render_hosts((broken, row))


def test_a_version_that_may_be_another_by_now_is_marked(settings) -> None:
    deployed(settings, at=1.0)
    deployed(settings, "0.2.0", outcome=Outcome.FAILED, state="FAILED_DIRTY", version="")
    rows = look_over(settings, open_store(settings))
    assert "demo 0.1.0?" in render_hosts(rows)
    assert "flash of 0.2.0" in rows[0].runs.unsettled


class Links:
    """The agents of hosts by name: one that answers, all others silent."""

    def __init__(self, target) -> None:
        self._host = target.host

    def status(self, *, timeout_s: float):
        if self._host == "rpc-1":
            return {"version": "0.3.0", "generation": "9"}
        raise HostError("no route", details="to it")


def test_live_asks_all_and_a_silent_one_hides_none(settings, monkeypatch) -> None:
    monkeypatch.setattr("flash.fleet.AgentLink", Links)
    for name in ("rpc-1", "rpc-2"):
        pin_host_key(settings, name, "ssh-ed25519 AAAA")
    (settings.project / "manifests/hosts/rpc-2.yaml").write_text(yaml.safe_dump(host_fields(name="rpc-2")))
    first, second = look_over(settings, open_store(settings), live=True)
    assert first.live == Live(answers=True, version="0.3.0", generation="9")
    assert second.live == Live(answers=False, problem="no route to it")
    lines = render_hosts((first, second)).splitlines()
    assert "demo 0.3.0" in lines[1]
    assert lines[2].endswith("does not answer")


def test_a_narrow_terminal_has_a_block_a_host(settings, monkeypatch) -> None:
    (row,) = look_over(settings, open_store(settings))
    first, *others = render_hosts((row,), width=30).splitlines()
    assert first == "rpc-1"
    assert others
    assert all(line.startswith("  ") and ": " in line for line in others)


def test_everything_at_a_glance(settings, monkeypatch, capsys) -> None:
    image = publish_image(settings)
    store = open_store(settings)
    store.move_channel("demo", "dev", ChannelPointer("0.1.0", image.id, 1), None)
    with record_of(settings, "development") as record:
        record.told |= {"rpc-1": Told("d" * 8, 1_790_000_000.0), "rpc-9": Told("", 1.0)}
    status = read_status(settings, live=False)
    (recipe,) = status.recipes
    at = next(iter(store.published().values())).modified_s
    expected = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    assert recipe == RecipeStatus("demo", {"dev": "0.1.0"}, "0.1.0", expected)
    assert [(one.environment, one.host, one.told_at) for one in status.drift] == [
        ("development", "rpc-1", "2026-09-21T14:13:20Z")
    ]
    assert status.keys.lab
    text = render_status(status)
    assert "demo: dev -> 0.1.0; last published 0.1.0" in text
    assert "drift: rpc-1 (development), told at 2026-09-21T14:13:20Z" in text
    document = Cli(monkeypatch, capsys).json("status")
    assert document == json.loads(json.dumps(asdict(read_status(settings, live=False))))
    assert document["store"] == str(settings.store)


def test_an_empty_project_says_how_to_begin(settings) -> None:
    (settings.project / "manifests/hosts/rpc-1.yaml").unlink()
    status = read_status(settings, live=False)
    assert (status.hosts, status.recipes, status.drift) == ((), (), ())
    assert status.keys == KeyStatus(problem=f"there is no trust set in {settings.keys_dir}; run `qtrade keys init`")
    assert "`qtrade init` makes the first manifest" in render_status(status)
    init_keys(settings, expires_days=10)
    keys = read_status(settings, live=False).keys
    assert (keys.days_left, keys.lab, keys.here) == (9, False, ("root", "build", "promote", "job"))


def test_hosts_list_is_one_document(settings, monkeypatch, capsys) -> None:
    document = Cli(monkeypatch, capsys).json("hosts", "list")
    assert [host["name"] for host in document["hosts"]] == ["rpc-1"]


def test_versions(settings, monkeypatch, capsys) -> None:
    run = Cli(monkeypatch, capsys)
    document = run.json("version")
    assert (document["qtrade"], document["schemas"]["host"]) == (__version__, 1)
    assert document["ansible_core"]
    monkeypatch.setenv("QTRADE_PROJECT", str(settings.state_dir))
    code, out, _ = run("version")
    assert (code, out.splitlines()[0]) == (0, f"qtrade {__version__}")
