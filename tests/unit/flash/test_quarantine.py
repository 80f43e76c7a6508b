"""A host whose flash ended in QUARANTINED: nobody gets it, here or elsewhere, before a person says that he has looked at it."""

import json

import pytest

from flash.lab import host as lab
from flash.lease import lease
from flash.push import push
from flash.run import abort, flash, prepare
from flash.standing import render_standing, show
from flash.states import State
from qtrade.errors import HostError, NotFound
from qtrade.manifest.driver import Door
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.leases import Lease, Leases, Quarantined
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeDoor
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A project whose host's last flash failed after the reboot of an installation."""
    made = make_settings(tmp_path)
    write_project(made, host={"address": "127.0.0.1", "ssh": {"identity_file": "/keys/deploy", "port": 1}})
    publish_image(made)
    with pytest.raises(HostError, match="the specs fail"):
        run(made, FakeDoor({State.HEALTHY: HostError("the specs fail")}))
    return made


def run(settings: Settings, fake: FakeDoor) -> State:
    context, plan = prepare(settings, "rpc-1", "0.1.0", RecordingReporter(), door=Door.PXE)
    return flash(context, plan, steps=fake.steps()).state


def test_nobody_gets_the_host_and_everybody_is_told_why_and_how(settings, tmp_path) -> None:
    fake, told = FakeDoor(), r"rpc-1 is quarantined: HEALTHY: the specs fail"
    with pytest.raises(Quarantined, match=told) as caught:
        run(settings, fake)
    assert fake.passed == []
    assert "`qtrade flash --host rpc-1 --abort`" in caught.value.resolution
    assert "by the flash of" in caught.value.details
    assert caught.value.exit_code == 8
    with pytest.raises(Quarantined, match=told):
        push(settings, "rpc-1", RecordingReporter())
    elsewhere = Settings(project=settings.project, state_dir=tmp_path / "other", store=settings.store)
    with pytest.raises(Quarantined, match=told), lease(elsewhere, open_store(settings), "rpc-1", RecordingReporter()):
        pytest.fail("another machine holds it")


def test_where_it_stands_says_so(settings) -> None:
    shown = show(settings, "rpc-1")
    assert (shown["flash"]["state"], shown["lease"]["held"]) == ("QUARANTINED", False)
    assert shown["lease"]["quarantine"] == "HEALTHY: the specs fail"


def test_people_are_told_the_same_in_lines(settings) -> None:
    lines = [line.split(maxsplit=1) for line in render_standing(show(settings, "rpc-1")).splitlines()]
    told = {name: rest[0] if rest else "" for name, *rest in lines}
    assert lines[0] == ["rpc-1", "does not answer"]
    assert told["quarantine:"] == "HEALTHY: the specs fail"
    assert "through pxe: QUARANTINED" in told["last"]
    assert told["PLANNED:"].endswith("Z")


def test_of_what_a_host_says_all_that_is_not_empty_is_shown_and_images_are_short(settings) -> None:
    image = "0123456789abcdef" * 4
    found = show(settings, "rpc-1") | {
        "answers": True, "version": "0.1.0", "image": image, "nonce": "n", "once": "", "reverted": None, "upper": [],
        "generations": {image: "7"}, "failed": ["a.service", "b.service"], "trust_expires": 0x65000000,
    }  # fmt: skip
    text = render_standing(found)
    assert text.splitlines()[0] == "rpc-1 runs 0.1.0 (0123456789abcdef…)"
    told = {line.split(":")[0].strip(): line.partition(":")[2].strip() for line in text.splitlines()[1:]}
    assert told["generations"] == "0123456789abcdef… 7"
    assert told["failed"] == "a.service, b.service"
    assert told["trust_expires"] == "2023-09-12T06:06:56Z"
    assert not {"nonce", "once", "reverted", "upper"} & told.keys()


def test_an_abort_takes_it_out_and_the_next_flash_begins(settings) -> None:
    reporter = RecordingReporter()
    assert abort(settings, "rpc-1", reporter).host == "rpc-1"
    assert reporter.lines == ["rpc-1 is out of quarantine; it was in because: HEALTHY: the specs fail"]
    assert run(settings, FakeDoor()) is State.COMMITTED
    with pytest.raises(NotFound, match="no open flash"):
        abort(settings, "rpc-1", reporter)


def test_another_operator_can_take_it_out_too(settings, tmp_path) -> None:
    elsewhere = Settings(project=settings.project, state_dir=tmp_path / "other", store=settings.store)
    abort(elsewhere, "rpc-1", RecordingReporter())
    assert run(settings, FakeDoor()) is State.COMMITTED


def test_a_flash_that_ends_otherwise_leaves_no_mark(settings) -> None:
    abort(settings, "rpc-1", RecordingReporter())
    with pytest.raises(HostError):
        run(settings, FakeDoor({State.WRITING: HostError("the disk is full")}))
    held = Leases(open_store(settings).objects).read("rpc-1")
    assert held is not None
    assert (held.released, held.quarantine) == (True, "")
    # Stores are shared with machines that know no quarantine: they read what they always read.
    assert "quarantine" not in json.loads(held.to_bytes())
    assert Lease.from_bytes(held.to_bytes()) == held


def test_a_lab_host_that_is_wiped_leaves_no_quarantine(settings) -> None:
    lab.down(settings, "rpc-1")
    assert Leases(open_store(settings).objects).read("rpc-1").quarantine
    lab.down(settings, "rpc-1", wipe=True)
    assert run(settings, FakeDoor()) is State.COMMITTED
