"""The power goes in every state of a flash: the old or the new version boots and is healthy, and the ledger disk is as it was.

What each test proves, and what it does not, is in docs/torture.md.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from flash.lab.disks import digest_disk
from flash.states import State
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.torture.kills import Timing, come_back, kill_in, kill_installer, settle
from tests.torture.power_cuts import STATES, check_health, record_reinstall, record_walks, walk
from tests.torture.proof import Log, prove_cuts
from tests.torture.tiny_guest import TinyGuest, tiny_guest
from tests.torture.tiny_image import TinyImages, make_images

pytestmark = pytest.mark.torture

# Of each state, unless --points says another number: 204 kills in all. Of 600 replayed cuts of flashes in place what every third left is
# booted, of 200 of the installer what every fiftieth left.
REPLAYED, KILLED, KILLED_INSTALLER, KILLED_UEFI = 100, 34, 10, 4
BOOT_EVERY, BOOT_EVERY_INSTALLED = 3, 50


@pytest.fixture(scope="module")
def images(settings: Settings, image_010: str, tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    assert image_010
    return make_images(settings, tmp_path_factory.mktemp("images"), "ABCD")


@pytest.fixture
def guest(settings: Settings, images: TinyImages, tmp_path: Path) -> Iterator[TinyGuest]:
    """A tiny host with version A installed, off."""
    with tiny_guest(settings, images, tmp_path) as guest:
        guest.install("A")
        yield guest


@pytest.fixture
def points(request: pytest.FixtureRequest) -> int | None:
    return request.config.getoption("points", None)


def test_cuts_that_lose_unflushed_writes(
    guest: TinyGuest, settings: Settings, seed: int, logs: Path, points: int | None
) -> None:
    """Three flashes in place, one after the other, cut at seeded writes; what was not flushed is lost in part."""
    recording = record_walks(guest, "ABCD", guest.folder)
    wanted = dict.fromkeys(STATES, points or REPLAYED)
    log = Log(logs / "replayed.jsonl")
    prove_cuts(guest, settings, recording, wanted, random.Random(f"{seed} replay"), log, boot_every=BOOT_EVERY)


def test_cuts_of_the_installer_that_lose_unflushed_writes(
    guest: TinyGuest, settings: Settings, seed: int, logs: Path, points: int | None
) -> None:
    """The installer writes B over A, whose layout it keeps."""
    guest.start()
    check_health(guest, guest.hello(), {"A"})
    guest.kill()
    recording = record_reinstall(guest, "A", "B", guest.folder)
    wanted = {State.WRITING: (points or REPLAYED) * 2}
    log = Log(logs / "installer.jsonl")
    prove_cuts(
        guest, settings, recording, wanted, random.Random(f"{seed} install"), log, boot_every=BOOT_EVERY_INSTALLED
    )


@dataclass(frozen=True)
class Rounds:
    """How often each state is cut; none begins after `until` (monotonic clock)."""

    most: int | None
    until: float


@pytest.fixture
def rounds(request: pytest.FixtureRequest, points: int | None) -> Rounds:
    minutes = request.config.getoption("minutes", None)
    return Rounds(points, time.monotonic() + minutes * 60 if minutes else float("inf"))


def kill_everywhere(guest: TinyGuest, rng: random.Random, log: Log, each: int, until: float) -> None:
    """Cut the power `each` times or more in each state, on the same disk: the faults of one cut meet the next flash."""
    timing, ledger, begin = Timing(), digest_disk(guest.ledger), time.monotonic()
    guest.start()
    running = check_health(guest, guest.hello(), {"A"})
    walk(guest, running, "B", timing.enter)
    timing.learn()
    running, done, spared = "B", Counter[State](), 0
    while min(done[state] for state in STATES) < each:
        start = time.monotonic()
        if start > until and len(done) == len(STATES):
            break
        killed = kill_in(guest, timing, running, min(STATES, key=done.__getitem__), rng)
        if killed is None:
            spared += 1
            assert spared <= len(log.rows) + len(STATES), "the flashes are over before the cuts"
            guest.start()
            running = settle(guest, guest.hello())
            continue
        booted, status = come_back(guest, killed)
        assert digest_disk(guest.ledger) == ledger, "the ledger disk was changed"
        default = guest.images.name_of(status["default"])
        running = settle(guest, status)
        done[killed.state] += 1
        log.add(**asdict(killed), booted=booted, default=default, seconds=round(time.monotonic() - start, 1))
    came = Counter("new" if row["booted"] == row["new"] else "old" for row in log.rows)
    seconds = round(time.monotonic() - begin)
    log.close(points=done, booted=came, spared=spared, ledger=ledger, seconds=seconds)


def test_killed_guest_comes_back(guest: TinyGuest, seed: int, logs: Path, rounds: Rounds) -> None:
    rng, log = random.Random(f"{seed} kill"), Log(logs / "killed.jsonl")
    kill_everywhere(guest, rng, log, rounds.most or KILLED, rounds.until)


def test_killed_guest_with_uefi_comes_back(
    settings: Settings, images: TinyImages, tmp_path: Path, seed: int, logs: Path, rounds: Rounds
) -> None:
    with tiny_guest(settings, images, tmp_path, firmware=Firmware.UEFI) as guest:
        guest.install("A")
        log = Log(logs / "killed-uefi.jsonl")
        kill_everywhere(guest, random.Random(f"{seed} kill uefi"), log, rounds.most or KILLED_UEFI, rounds.until)
        assert "UEFI" in guest.console.read_text(errors="replace")


def test_killed_installer_leaves_a_host_that_boots(guest: TinyGuest, seed: int, logs: Path, points: int | None) -> None:
    """The installer is killed while it writes over a version that runs; the layout is kept, GRUB is another one each second time."""
    rng, log = random.Random(f"{seed} installer"), Log(logs / "killed-installer.jsonl")
    begin, ledger = time.monotonic(), digest_disk(guest.ledger)
    guest.start()
    running = check_health(guest, guest.hello(), {"A"})
    guest.kill()
    for _ in range(points or KILLED_INSTALLER):
        new = rng.choice([name for name in guest.images.versions if name != running])
        delay = rng.uniform(0, 6)
        step = kill_installer(guest, new, delay)
        guest.start()
        old, status = running, guest.hello()
        running = check_health(guest, status, {old, new})
        assert guest.images.name_of(status["default"]) == running
        guest.kill()
        assert digest_disk(guest.ledger) == ledger, "the ledger disk was changed"
        log.add(state=State.WRITING, step=step, old=old, new=new, delay_s=round(delay, 2), booted=running)
    log.close(points=Counter(row["step"] for row in log.rows), seconds=round(time.monotonic() - begin))
    assert any(row["step"] != "report" for row in log.rows), "no kill fell before the end"
