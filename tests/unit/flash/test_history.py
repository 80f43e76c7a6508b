"""Every deploy of a host is in the store's history, and the file of an environment says what its hosts run."""

import json
from dataclasses import replace

import pytest
import yaml

from flash.history import RunningVersion, decide_running, make_release, render_history, write_release
from flash.journal import latest
from flash.rollback import rollback
from flash.ssh import pin_host_key
from flash.states import State
from qtrade.actor import Actor, Run
from qtrade.errors import HostError
from qtrade.manifest.driver import Door
from qtrade.store import ChannelPointer, open_store
from qtrade.store.history import Deploy, Ending, History, Kind, Outcome, Past
from tests.fakes.cli import Cli
from tests.fakes.examples import make_image, make_settings
from tests.fakes.flash import FakeBoard, FakeDoor, FakeLink, Rig
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

RUN = Run("qtrade/fleet", "deploy", "4711")


def past(kind=Kind.FLASH, version="0.2.0", *, at=1_790_000_000.0, actor=None, **ending) -> Past:
    made = Deploy(kind, "development", "rpc-1", "demo", version, "b" * 64, {}, actor or Actor("ada", "desk"), at)
    fields = {"outcome": Outcome.DONE, "at": at + 60, "state": "COMMITTED", "version": version, "image": "b" * 64}
    return Past(made, Ending(**{**fields, **ending}))


@pytest.fixture
def rig(tmp_path) -> Rig:
    return Rig(make_settings(tmp_path))


def history(rig: Rig) -> tuple[Past, ...]:
    return History(open_store(rig.settings).objects).read()


def test_a_flash_is_recorded_with_its_inputs_and_what_came_of_it(rig, monkeypatch) -> None:
    for name, value in {
        "ACTOR": "octocat",
        "RUN_ID": "4711",
        "REPOSITORY": "qtrade/fleet",
        "WORKFLOW": "deploy",
    }.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    rig.flash(Door.PXE, FakeDoor(evidence={State.PREFLIGHT: {"generation": "7"}}))
    (found,) = history(rig)
    deploy, image = found.deploy, make_image()
    assert (deploy.kind, deploy.environment, deploy.host, deploy.recipe) == (Kind.FLASH, "development", "rpc-1", "demo")
    assert (deploy.actor.who, deploy.actor.run.id, deploy.actor.run.workflow) == ("octocat", "4711", "deploy")
    assert deploy.inputs == {
        "door": "pxe",
        "plan": rig.plan(Door.PXE).digest,
        "allow_older": False,
        "reimage": {"adopt": "", "remake_system": False, "wipe_state": False},
        "journal": "001.jsonl",
        "begin": "PLANNED",
        "until": "COMMITTED",
    }
    assert found.ending == Ending(Outcome.DONE, found.ending.at, "COMMITTED", "0.1.0", image.id, "7")
    assert latest(rig.folder).evidence("deploy") == deploy.id
    assert latest(rig.folder).evidence("by")["run"]["id"] == "4711"


def test_each_part_of_a_flash_that_stops_and_goes_on_is_recorded(rig) -> None:
    rig.flash(Door.PXE, FakeDoor(), until=State.PREFLIGHT)
    rig.flash(Door.PXE, FakeDoor())
    ended, stopped = history(rig)
    assert (stopped.ending.outcome, stopped.ending.state, stopped.ending.version) == (Outcome.STOPPED, "PREFLIGHT", "")
    assert (ended.ending.outcome, ended.ending.version) == (Outcome.DONE, "0.1.0")
    assert ended.deploy.inputs["journal"] == stopped.deploy.inputs["journal"]
    lines = [entry.evidence.get("deploy") for entry in latest(rig.folder).entries]
    assert [one for one in lines if one] == [stopped.deploy.id, ended.deploy.id]


def test_a_flash_that_fails_says_where_it_ended(rig) -> None:
    with pytest.raises(HostError):
        rig.flash(Door.PXE, FakeDoor({State.PREFLIGHT: HostError("no door", details="d")}))
    (found,) = history(rig)
    assert (found.ending.outcome, found.ending.state, found.ending.error) == (Outcome.FAILED, "FAILED_SAFE", "no door")


class Booting(FakeLink):
    """A host that boots the other image when it is told to."""

    def run(self, job, **options):
        super().run(job, **options)
        if len(self.jobs) == 1:
            new = {**self.statuses[0], "image": self.statuses[0]["previous"], "version": "0.1.0", "boot_id": "2"}
            self.statuses = [new]
        return {"bytes_fetched": 0}


def test_a_rollback_is_recorded(tmp_path, monkeypatch) -> None:
    settings = make_settings(tmp_path)
    (tmp_path / "deploy").touch(mode=0o600)
    write_project(settings, host={"ssh": {"identity_file": str(tmp_path / "deploy")}})
    pin_host_key(settings, "rpc-1", "ssh-ed25519 AAAA")
    old, new = publish_image(settings, cmdline="old"), publish_image(settings, version="0.2.0", cmdline="new")
    status = {"image": new.id, "default": new.id, "previous": old.id, "installed": [new.id, old.id], "boot_id": "1"}
    link = Booting(statuses=[{**status, "version": "0.2.0"}])
    monkeypatch.setattr("flash.access.AgentLink", lambda _: link)
    monkeypatch.setattr("flash.access.driver_for", lambda *_, **__: FakeBoard())
    rollback(settings, "rpc-1", RecordingReporter())
    (found,) = History(open_store(settings).objects).read()
    assert (found.deploy.kind, found.deploy.version, found.deploy.image) == (Kind.ROLLBACK, "0.1.0", old.id)
    assert found.deploy.inputs == {"to": "", "before": {"version": "0.2.0", "image": new.id}}
    assert found.ending == Ending(Outcome.DONE, found.ending.at, version="0.1.0", image=old.id)
    release = make_release(settings, open_store(settings), "development")
    assert (release.hosts["rpc-1"].version, release.hosts["rpc-1"].unsettled) == ("0.1.0", None)


def test_what_a_host_runs_is_what_its_last_good_flash_or_rollback_says() -> None:
    flashed = past(actor=Actor("octocat", "runner", RUN))
    expected = RunningVersion("demo", "0.2.0", "b" * 64, "2026-09-21T14:14:20Z", "octocat", "qtrade/fleet 4711")
    push = past(Kind.PUSH, "0.9.0", at=1_790_000_500.0)
    assert decide_running("demo", [push, flashed, past(version="0.1.0", at=1.0)]) == expected
    for state in ("FAILED_SAFE", "ROLLED_BACK"):
        harmless = past(version="0.3.0", outcome=Outcome.FAILED, state=state)
        harmless = replace(harmless, ending=replace(harmless.ending, version="", image=""))
        assert decide_running("demo", [harmless, flashed]) == expected


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (Ending(Outcome.UNKNOWN), "flash of 0.3.0 at 2026-09-21T14:15:00Z has no end yet"),
        (Ending(Outcome.FAILED, 1.0, "QUARANTINED"), "flash of 0.3.0 at 2026-09-21T14:15:00Z ended QUARANTINED"),
        (Ending(Outcome.FAILED, 1.0, "FAILED_DIRTY"), "flash of 0.3.0 at 2026-09-21T14:15:00Z ended FAILED_DIRTY"),
    ],
    ids=["no end", "quarantined", "dirty"],
)
def test_a_deploy_whose_end_is_open_leaves_the_version_unsettled(ending, told) -> None:
    open_one = Past(past(version="0.3.0", at=1_790_000_100.0).deploy, ending)
    found = decide_running("demo", [open_one, past()])
    assert (found.version, found.unsettled) == ("0.2.0", told)
    assert decide_running("demo", [open_one]) == RunningVersion("demo", unsettled=told)


def test_the_file_of_an_environment_is_the_same_for_the_same_deploys(tmp_path) -> None:
    settings = make_settings(tmp_path)
    write_project(settings)
    image = publish_image(settings)
    store = open_store(settings)
    store.move_channel("demo", "dev", ChannelPointer("0.1.0", image.id, 1), None)
    done = past(version="0.1.0")
    history = History(store.objects)
    history.begin(done.deploy)
    history.end(done.deploy, done.ending)
    path = write_release(settings, make_release(settings, store, "development"))
    first = path.read_bytes()
    assert yaml.safe_load(first) == {
        "schema_version": 1,
        "environment": "development",
        "channels": {"demo": "0.1.0"},
        "hosts": {
            "rpc-1": {
                "recipe": "demo",
                "version": "0.1.0",
                "image": "b" * 64,
                "deployed_at": "2026-09-21T14:14:20Z",
                "by": "ada",
            }
        },
    }
    assert write_release(settings, make_release(settings, store, "development")).read_bytes() == first


def test_the_command_prints_one_document_and_writes_the_file(tmp_path, monkeypatch, capsys) -> None:
    settings = make_settings(tmp_path)
    write_project(settings)
    monkeypatch.setenv("QTRADE_PROJECT", str(settings.project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(settings.state_dir))
    run = Cli(monkeypatch, capsys)
    done = past()
    History(open_store(settings).objects).begin(done.deploy)
    code, out, err = run("history", "--env", "development", "--write", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema_version"] == 1
    assert document["deploys"][0]["deploy"]["id"] == done.deploy.id
    assert document["deploys"][0]["ending"]["outcome"] == "unknown"
    assert document["written"] == str(settings.project / "manifests/releases/development.yaml")
    code, out, _ = run("history", "--host", "rpc-1")
    assert out == ("2026-09-21T14:13:20Z  development  flash rpc-1 demo 0.2.0  no end written  by ada@desk\n")
    assert run("history", "--host", "rpc-9")[0] == 4
    assert run("history", "--env", "nowhere")[0] == 4
    assert run("history", "--host", "rpc-1", "--write")[0] == 2


def test_lines_for_people_name_what_came_of_it() -> None:
    done = past(generation="7", actor=Actor("octocat", "runner", RUN))
    failed = Past(past().deploy, Ending(Outcome.FAILED, 1.0, "FAILED_SAFE", error="no door"))
    begun = "2026-09-21T14:13:20Z  development  flash rpc-1 demo 0.2.0"
    assert render_history([done, failed]).splitlines() == [
        f"{begun}  done COMMITTED -> 0.2.0 generation 7  by octocat (deploy, run 4711)",
        f"{begun}  failed FAILED_SAFE  by ada@desk  no door",
    ]
    assert render_history([]) == "no deploys are recorded"
