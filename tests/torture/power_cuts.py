"""A flash of the tiny guest from state to state, recorded write by write or cut by SIGKILL, and what must hold afterwards."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash.states import State
from qtrade.toolsroot import ToolsRoot
from tests.torture.disk_check import DiskCheck, Verdict, copy_range, read_partitions
from tests.torture.tiny_guest import TinyGuest
from tests.torture.write_log import Cut, Replay, logged_disk, overlaid_disk

STATES = (State.WRITING, State.VERIFIED, State.ARMED, State.REBOOTING, State.CONFIGURED, State.COMMITTED)


@dataclass(frozen=True)
class Mark:
    """The moment at which a state was entered on the way from version `old` to `new`: the size of the log then."""

    state: State
    old: str
    new: str
    log_bytes: int


@dataclass(frozen=True)
class Point:
    """One power cut: where it fell, what was lost, and what it left."""

    state: State
    old: str
    new: str
    cut: Cut
    verdict: Verdict

    @property
    def row(self) -> dict[str, Any]:
        """Return it for the log of a run."""
        return {
            "state": self.state, "old": self.old, "new": self.new, "entry": self.cut.index, "loose": self.cut.loose,
            "kept": len(self.cut.kept), "default": self.verdict.default, "once": self.verdict.once, "faults": self.verdict.faults,
        }  # fmt: skip


def walk(guest: TinyGuest, old: str, new: str, entered: Callable[[State], None]) -> dict[str, Any]:
    """Flash `new` over `old` in place, as the door `in_place` does, telling of each state; return the host's status in the end."""
    entered(State.WRITING)
    guest.control.on_line = lambda line: entered(State.VERIFIED) if line.get("event") == "report" else None
    guest.run(guest.stage(new))
    guest.control.on_line = lambda _: None
    entered(State.ARMED)
    guest.run(guest.jobs.arm(guest.image_id(new)))
    entered(State.REBOOTING)
    guest.reboot()
    check_health(guest, guest.hello(), {new})
    entered(State.CONFIGURED)
    guest.run(guest.jobs.apply(guest.bundle(new)))
    entered(State.COMMITTED)
    status: dict[str, Any] = guest.run(guest.jobs.commit(guest.image_id(new)))["status"]
    assert guest.images.name_of(status["default"]) == new
    assert guest.images.name_of(status["previous"]) == old
    return status


def check_health(guest: TinyGuest, status: dict[str, Any], allowed: set[str]) -> str:
    """Check what a booted host says of itself; return its version."""
    version = guest.images.name_of(status["image"])
    assert version in allowed, f"{version} runs, not {allowed}"
    assert status["state"] == "persistent", "the state partition could not be used"
    assert status["upper"] == []
    assert status["failed_boots"] == 0, "the agent could not note the boot"
    assert status["config"].startswith(f"{version} "), f"{version} runs with the config {status['config'][:20]!r}"
    return version


@dataclass(frozen=True)
class Recording:
    """A flash or several, write by write: the disk before, the log, when which state was entered, and in which the default moves."""

    base: Path
    log: Path
    marks: tuple[Mark, ...]
    moves_in: State = State.COMMITTED


def record_walks(guest: TinyGuest, versions: str, folder: Path) -> Recording:
    """Flash one version after the other (the first is installed) while QEMU logs all writes."""
    base, log = folder / "base.raw", folder / "writes.log"
    copy_range(guest.os_disk, base, 0, guest.os_disk.stat().st_size)
    log.touch()
    marks: list[Mark] = []
    guest.start(logged_disk(guest.os_disk, log))
    check_health(guest, guest.hello(), {versions[0]})
    for old, new in itertools.pairwise(versions):
        walk(guest, old, new, lambda state, pair=(old, new): marks.append(Mark(state, *pair, log.stat().st_size)))
    marks.append(Mark(State.HEALTHY, versions[-1], versions[-1], log.stat().st_size))
    guest.kill()
    return Recording(base, log, tuple(marks))


def record_reinstall(guest: TinyGuest, old: str, new: str, folder: Path) -> Recording:
    """Install `new` over `old` from the network, with the layout kept, while QEMU logs all writes."""
    base, log = folder / "base.raw", folder / "writes.log"
    copy_range(guest.os_disk, base, 0, guest.os_disk.stat().st_size)
    log.touch()
    job = guest.install_job(new)
    guest.start(logged_disk(guest.os_disk, log), installer=job)
    guest.wait_installed(job)
    guest.kill()
    marks = (Mark(State.WRITING, old, new, 0), Mark(State.HEALTHY, new, new, log.stat().st_size))
    # The installer's last write.
    return Recording(base, log, marks, moves_in=State.WRITING)


def replay_cuts(
    recording: Recording,
    check: DiskCheck,
    points: dict[State, int],
    rng: random.Random,
    on_point: Callable[[Point], None],
) -> Counter[State]:
    """Cut the power at so many moments of each state, after writes chosen by `rng`; judge each disk that is left.

    `on_point` gets each point while its disk is at `recording.base`. Returns how many points were judged, by state.
    """
    replay = Replay(recording.base, recording.log)
    # The boot state is made for disks that write nothing but single sectors whole. An ext4 needs more: its superblock has two.
    esp = read_partitions(recording.base)[1]
    done: Counter[State] = Counter()
    for index, mark in _choose(recording, replay, points, rng):
        cut = replay.choose(index, rng, range(esp.start, esp.start + esp.size))
        with replay.cut(cut):
            verdict = check.check(recording.base, replay.signature(cut))
            on_point(Point(mark.state, mark.old, mark.new, cut, verdict))
        done[mark.state] += 1
    replay.close()
    return done


def judge(point: Point, moves_in: State) -> list[str]:
    """Return what is wrong with what a cut left: nothing but old or new may boot, and new only from where it may."""
    verdict, faults = point.verdict, list(point.verdict.faults)
    may_be_default = {point.old, point.new} if point.state is moves_in else {point.old}
    may_be_once = {"", point.new} if point.state in (State.ARMED, State.REBOOTING) else {""}
    if verdict.default not in may_be_default:
        faults.append(f"default is {verdict.default!r} in {point.state}")
    if verdict.once not in may_be_once:
        faults.append(f"once is {verdict.once!r} in {point.state}")
    return faults


def boot_cut(guest: TinyGuest, tools: ToolsRoot, point: Point, disk: Path, folder: Path) -> tuple[str, float]:
    """Boot what a cut left, without changing it; return the version that came up healthy, and in how many seconds."""
    overlay = folder / "overlay.qcow2"
    overlay.unlink(missing_ok=True)
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay)
    begin = time.monotonic()
    guest.start(overlaid_disk(overlay))
    version = check_health(guest, guest.hello(), {point.verdict.next_boot})
    guest.kill()
    overlay.unlink()
    return version, time.monotonic() - begin


def _choose(
    recording: Recording, replay: Replay, points: dict[State, int], rng: random.Random
) -> list[tuple[int, Mark]]:
    """Return entries of the log with the state that they fell into, in order.

    A state in which nothing is written has the last entry before it.
    """
    by_state: dict[State, list[tuple[int, Mark]]] = {state: [] for state in points}
    begins: dict[State, list[tuple[int, Mark]]] = {state: [] for state in points}
    marks = iter(recording.marks)
    current, following = None, next(marks)
    for index, entry in enumerate(replay.entries):
        while following is not None and entry.data_at > following.log_bytes:
            current, following = following, next(marks, None)
            if index and current.state in begins:
                begins[current.state].append((index - 1, current))
        if current is not None and current.state in by_state:
            by_state[current.state].append((index, current))
    chosen = []
    for state, count in points.items():
        found = by_state[state] or begins[state]
        assert found, f"no flash came to {state}, so no cut can fall there"
        chosen += [rng.choice(found) for _ in range(count)]
    return sorted(chosen, key=lambda pair: pair[0])
