"""What the installer refuses: the flash ends FAILED_SAFE where nothing was written, and says no byte was."""

from typing import Any

import pytest

from flash.agent.report import sign_report
from flash.doors import installer
from flash.journal import latest
from flash.run import flash
from flash.states import State
from qtrade.errors import HostError, TrustError
from qtrade.manifest.driver import Door
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeDoor, Rig
from tests.fakes.projects import add_blobs
from tests.unit.flash.test_ladder import Entry, _short_server

pytestmark = pytest.mark.unit

REFUSAL = {"code": "disk-not-found", "message": "0 disks have serial OS-1", "remedy": "correct os_disk"}


class Refusing(Entry):
    """An agent that tells `steps`, and then that it failed."""

    def __init__(self, steps: list[str], *, key: str = "", **facts: Any) -> None:
        super().__init__(works_at=1)
        self.steps, self.key, self.facts = steps, key, facts

    def enter(self, context, installer):
        entered = super().enter(context, installer)
        for step in self.steps:
            installer.tell({"event": "progress", "step": step})
        report = {"event": "report", "ok": False, "nonce": installer.job.nonce, "error": REFUSAL, **self.facts}
        installer.tell(sign_report(report, self.key or installer.job.nonce))
        return entered


@pytest.fixture
def rig(tmp_path, monkeypatch) -> Rig:
    monkeypatch.setattr(installer, "FlashServer", _short_server())
    return Rig(make_settings(tmp_path))


def fail(
    rig: Rig, entry: Refusing, *, end: State, error: type[Exception] = HostError, written: bool | None = None
) -> None:
    context = rig.context()
    context.written = written
    add_blobs(context.store, context.image.image, context.settings.state_dir)
    made = installer.steps(entry)
    steps = {**FakeDoor().steps(), **{state: made[state] for state in (State.STAGING, State.WRITING, State.VERIFIED)}}
    with pytest.raises(error):
        flash(context, rig.plan(Door.PXE), steps=steps)
    journal = latest(rig.folder)
    assert journal.state is end
    assert journal.evidence("written_bytes") is None


@pytest.mark.parametrize("steps", [["check"], ["check", "warning"], []])
@pytest.mark.parametrize("facts", [{"written": False}, {}], ids=["says so", "older agent"])
def test_what_is_refused_before_the_first_write_ends_safe(rig, steps, facts) -> None:
    fail(rig, Refusing(steps, **facts), end=State.FAILED_SAFE)
    journal = latest(rig.folder)
    assert (journal.evidence("failed"), journal.evidence("written")) == (State.WRITING, False)
    assert journal.evidence("error") == "rpc-1: 0 disks have serial OS-1"


@pytest.mark.parametrize(
    ("steps", "facts"),
    [
        (["check", "partition"], {}),
        (["check", "partition", "fetch"], {"written": True}),
        # The telling of the first write was lost on the way.
        (["check"], {"written": True}),
    ],
)
def test_what_fails_later_ends_dirty(rig, steps, facts) -> None:
    fail(rig, Refusing(steps, **facts), end=State.FAILED_DIRTY)


def test_a_report_of_somebody_else_says_nothing_of_the_disk(rig) -> None:
    fail(rig, Refusing(["check"], key="f" * 64, written=False), end=State.FAILED_DIRTY, error=TrustError)


def test_a_disk_that_an_earlier_try_may_have_written_stays_dirty(rig) -> None:
    fail(rig, Refusing(["check"], written=False), end=State.FAILED_DIRTY, written=True)
