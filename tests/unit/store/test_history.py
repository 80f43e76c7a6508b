"""The history of deploys: many writers, one order, ends that never came, on both kinds of store."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from qtrade.actor import Actor, Run
from qtrade.errors import ConflictError, HostError, TrustError
from qtrade.store.history import Deploy, Ending, History, Kind, Outcome, recorded
from qtrade.store.objects import Missing

pytestmark = pytest.mark.unit

JANUARY, DAY_S = 1_767_225_600.0, 86400.0  # 2026-01-01
PERSON = Actor("ada", "desk")
WORKFLOW = Actor("ada", "runner-7", Run("qtrade/fleet", "deploy", "4711", "1", "push", "c" * 40))


def deploy(host: str = "rpc-1", *, at: float = 1_790_000_000.25, **changes) -> Deploy:
    made = Deploy(Kind.FLASH, "staging", host, "demo", "0.2.0", "a" * 64, {"door": "pxe"}, PERSON, at)
    return replace(made, **changes)


def test_what_was_written_is_read_again_newest_first(store) -> None:
    history = History(store.objects)
    first, second = deploy(), deploy(at=1_790_000_001.0, actor=WORKFLOW, kind=Kind.PUSH)
    ended = Ending(Outcome.DONE, 1_790_000_002.5, "COMMITTED", "0.2.0", "a" * 64, "7")
    history.begin(first)
    history.begin(second)
    history.end(second, ended)
    assert [(one.deploy, one.ending) for one in history.read()] == [(second, ended), (first, Ending(Outcome.UNKNOWN))]


def test_a_host_an_environment_or_the_last_ones_are_asked_for(store) -> None:
    history = History(store.objects)
    # The first two of earlier months: a listing is of one month.
    made = [
        deploy("rpc-1", at=JANUARY + 1.0),
        deploy("rpc-2", at=JANUARY + 60 * DAY_S),
        deploy("rpc-1", at=JANUARY + 200 * DAY_S, environment="production"),
        deploy("", at=JANUARY + 200 * DAY_S + 1, kind=Kind.PROMOTE),
    ]
    first, second, third, fourth = (one.at for one in made)
    for one in made:
        history.begin(one)

    def asked(**which) -> list[float]:
        return [one.deploy.at for one in history.read(**which)]

    assert asked() == [fourth, third, second, first]
    assert asked(host="rpc-1") == [third, first]
    assert asked(environment="staging") == [fourth, second, first]
    assert asked(environment="staging", host="rpc-1") == [first]
    assert asked(last=2) == [fourth, third]
    # A channel is no host, whatever its recipe is called.
    assert asked(host="demo") == []


def test_controllers_that_write_in_the_same_moment_lose_nothing(store) -> None:
    made = [deploy(at=JANUARY, id=f"{number:016x}") for number in range(24)]

    def write(one: Deploy) -> None:
        with recorded(store.objects, one, pytest.fail):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, made))
    found = History(store.objects).read()
    assert {one.deploy.id for one in found} == {one.id for one in made}
    assert {one.ending.outcome for one in found} == {Outcome.DONE}


def test_a_controller_whose_clock_is_wrong_is_heard(store) -> None:
    now = JANUARY + 200 * DAY_S
    history = History(store.objects, clock=lambda: now)
    for at in (0.0, now + 20 * DAY_S):
        history.begin(deploy(at=at))
    assert [one.deploy.at for one in history.read()] == [now + 20 * DAY_S, 0.0]


def test_months_that_nobody_asks_for_are_not_listed(store) -> None:
    history = History(store.objects, clock=lambda: JANUARY + 330 * DAY_S)
    history.begin(deploy(at=JANUARY + 329 * DAY_S))
    asked: list[str] = []
    listing = store.objects.list
    store.objects.list = lambda folder: asked.append(folder) or listing(folder)
    assert len(history.read(last=1)) == 1
    assert asked == ["history/2026-12/", "history/2026-11/"]


def test_an_object_is_written_once(store) -> None:
    one = deploy()
    History(store.objects).begin(one)
    with pytest.raises(ConflictError, match="already, with other content"):
        History(store.objects).begin(replace(one, version="0.3.0"))


def test_a_failure_is_the_end_of_its_deploy_and_goes_on(store) -> None:
    def fail() -> None:
        with recorded(store.objects, deploy(), pytest.fail) as progress:
            progress.ending = Ending(Outcome.STOPPED, state="FAILED_SAFE")
            raise HostError("rpc-1 does not answer")

    with pytest.raises(HostError):
        fail()
    (past,) = History(store.objects).read()
    assert (past.ending.outcome, past.ending.state) == (Outcome.FAILED, "FAILED_SAFE")
    assert (past.ending.error, past.ending.version) == ("rpc-1 does not answer", "")


def test_an_interrupt_is_an_end_too(store) -> None:
    with pytest.raises(KeyboardInterrupt), recorded(store.objects, deploy(), pytest.fail):
        raise KeyboardInterrupt
    assert History(store.objects).read()[0].ending.outcome is Outcome.FAILED


class Deaf:
    """Objects that take the first write only."""

    def __init__(self, objects, takes: int) -> None:
        self._objects, self._left = objects, takes

    def put_new(self, key: str, content: bytes) -> None:
        if not self._left:
            raise OSError(28, "No space left on device")
        self._left -= 1
        self._objects.put_new(key, content)


def test_nothing_begins_that_cannot_be_written_down(store) -> None:
    begun = []
    with pytest.raises(OSError, match="No space left"), recorded(Deaf(store.objects, 0), deploy(), pytest.fail):
        begun.append(1)
    assert begun == []


def test_an_end_that_cannot_be_written_is_warned_of(store) -> None:
    said: list[str] = []
    with recorded(Deaf(store.objects, 1), deploy(), said.append):
        pass
    assert said == ["warning: the end of this flash is not in the history: [Errno 28] No space left on device"]
    assert History(store.objects).read()[0].ending.outcome is Outcome.UNKNOWN


def test_a_damaged_record_is_named(store) -> None:
    History(store.objects).begin(deploy())
    (entry,) = store.objects.list("history/")
    store.objects.put(entry.key, b'{"schema_version": 2}')
    with pytest.raises(TrustError, match=entry.key) as caught:
        History(store.objects).read()
    assert "this qtrade reads 1" in caught.value.details


def test_what_else_lies_there_is_passed_over(store) -> None:
    store.objects.put("history/2026-10/staging/notes", b"mine")
    assert History(store.objects).read() == ()
    with pytest.raises(Missing):
        store.objects.get("history/2026-10/staging/none")
