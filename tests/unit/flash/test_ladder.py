"""The ladder of reboots: which rung works, what is set up again, and what the evidence says."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flash.doors import in_place
from flash.doors.installer import Place, steps
from flash.ladder import Rung, climb
from flash.netboot.server import FlashServer
from flash.states import State
from qtrade.errors import HostError, Refused
from tests.fakes.flash import FakeContext
from tests.fakes.projects import add_blobs
from tests.unit.flash.test_context import make_context

pytestmark = pytest.mark.unit

OLD = {"image": "old", "version": "0.0.9", "boot_id": "b1", "once": "", "nonce": "n"}


class Board:
    """Hardware that boots the host into `boots` when its power is cycled, or cannot be reached."""

    def __init__(self, context: FakeContext, *, boots: dict | None = None) -> None:
        self.context, self.boots, self.cycles = context, boots, 0

    def power_cycle(self) -> None:
        self.cycles += 1
        if self.boots is None:
            raise HostError("the BMC does not answer")
        self.context.link.statuses = [self.boots]


@pytest.fixture
def context(tmp_path, monkeypatch) -> FakeContext:
    made = make_context(tmp_path, None)
    made.journal.write(State.ARMED, {"armed_boot_id": "b1", "old_image": "old", "nonce": "n", "door": "pxe"})
    made.link.statuses = [OLD]
    return made


def use(context: FakeContext, monkeypatch, **board) -> Board:
    made = Board(context, **board)

    @contextmanager
    def driver(self, ability) -> Iterator[Board]:
        yield made

    monkeypatch.setattr(type(context), "driver", driver)
    return made


def new(context: FakeContext) -> dict:
    return {**OLD, "image": context.image.image.id, "boot_id": "b2", "verified": "fs-verity"}


def reboot(context: FakeContext) -> dict:
    return in_place.steps()[State.REBOOTING](context, 1800)


def test_a_host_that_reboots_when_asked_needs_no_more(context, monkeypatch) -> None:
    board = use(context, monkeypatch, boots=new(context))
    context.link.statuses = [OLD, new(context)]
    evidence = reboot(context)
    assert (evidence["rung"], evidence["boot_id"], board.cycles) == ("soft", "b2", 0)
    assert "tried" not in evidence
    # The connection to a host that goes down would hang.
    assert (len(context.link.jobs), context.link.disconnected) == (1, 1)


def test_a_host_that_ignores_the_request_is_power_cycled(context, monkeypatch) -> None:
    board = use(context, monkeypatch, boots=new(context))
    evidence = reboot(context)
    assert (evidence["rung"], evidence["boot_id"], board.cycles) == ("power cycle", "b2", 1)
    assert [one["rung"] for one in evidence["tried"]] == ["soft"]
    assert "did not happen within 900 s" in evidence["tried"][0]["error"]


def test_a_host_that_is_dead_is_power_cycled(context, monkeypatch) -> None:
    use(context, monkeypatch, boots=new(context))
    context.link.statuses = []
    assert reboot(context)["rung"] == "power cycle"
    assert context.link.jobs == []


def test_a_host_that_rebooted_already_is_not_asked_again(context, monkeypatch) -> None:
    use(context, monkeypatch)
    context.link.statuses = [new(context)]
    assert reboot(context)["rung"] == "soft"
    assert context.link.jobs == []


def test_when_no_rung_works_each_is_told(context, monkeypatch) -> None:
    use(context, monkeypatch)
    with pytest.raises(HostError, match="not by soft nor by power cycle") as caught:
        reboot(context)
    assert "power cycle: the BMC does not answer" in caught.value.details


def test_the_old_version_is_brought_back_by_power_where_the_new_one_hangs(context, monkeypatch) -> None:
    board = use(context, monkeypatch, boots={**OLD, "boot_id": "b3"})
    context.link.statuses = []
    evidence = in_place.confirm_fallback(context, 1800)
    assert (evidence["running"], evidence["rung"], board.cycles) == ("old", "power cycle", 1)


def test_an_error_that_stays_is_not_tried_again(context) -> None:
    acted = []

    def refuse() -> None:
        acted.append(1)
        raise Refused("not this host")

    rungs = [Rung("a", 1, refuse), Rung("b", 1, refuse)]
    with pytest.raises(Refused, match="not this host"):
        climb(context, rungs, lambda _: {}, what="it")
    assert acted == [1]


class Entry:
    """A way in that works from the second time on; it remembers the calls."""

    def __init__(self, works_at: int) -> None:
        self.calls: list[str] = []
        self.works_at = works_at

    def check(self, context):
        return {}

    def can_repeat(self, context):
        return True

    def place(self, context):
        return Place("127.0.0.1", 0, asks_by_mac=True)

    def enter(self, context, installer):
        armed = installer.served.is_armed
        installer.served.is_armed = False  # as the host that fetched its boot script leaves it
        self.calls.append(f"enter, script {'ready' if armed else 'used up'}")
        if len(self.calls) >= self.works_at:
            installer.tell({"event": "progress", "step": "begin"})
        return {"override": "Once"}

    def leave(self, context):
        self.calls.append("leave")


@pytest.fixture
def served(context, monkeypatch) -> FakeContext:
    monkeypatch.setattr("flash.doors.installer.FlashServer", _short_server())
    add_blobs(context.store, context.image.image, context.settings.state_dir)
    return context


def _short_server():
    return lambda listen, port, **options: FlashServer(listen, 0, efi_loader=options["efi_loader"])


def test_a_boot_that_did_not_reach_the_installer_is_armed_and_tried_again(served) -> None:
    entry = Entry(works_at=2)
    evidence = steps(entry)[State.STAGING](served, 1.0)
    for action in reversed(served.clean_up):
        action()
    assert entry.calls == ["enter, script ready"] * 2
    assert (evidence["rung"], evidence["first_event"]) == ("second entry", "begin")
    assert "said nothing" in evidence["tried"][0]["error"]
    assert served.was_powered_off


def test_the_installer_that_does_not_reboot_is_power_cycled_after_the_override_is_cleared(served, monkeypatch) -> None:
    board = use(served, monkeypatch, boots=new(served))
    entry = Entry(works_at=1)
    evidence = steps(entry)[State.REBOOTING](served, 2.0)
    assert (evidence["rung"], board.cycles, entry.calls) == ("power cycle", 1, ["leave", "leave"])
