"""Points judged and booted, with a log of each that stays."""

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash.lab.disks import digest_disk
from flash.states import State
from qtrade.settings import Settings
from qtrade.toolsroot import open_tools
from tests.torture.disk_check import DiskCheck
from tests.torture.power_cuts import Point, Recording, boot_cut, judge, replay_cuts
from tests.torture.tiny_guest import TinyGuest


@dataclass
class Log:
    """What a test saw, point by point, in a file that stays."""

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path.unlink(missing_ok=True)

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def close(self, **summary: Any) -> None:
        """Write the summary, and show it."""
        self.path.with_suffix(".json").write_text(json.dumps(summary, indent=2) + "\n")
        print(f"{self.path.stem}: {json.dumps(summary)}")


def prove_cuts(
    guest: TinyGuest,
    settings: Settings,
    recording: Recording,
    wanted: dict[State, int],
    rng: random.Random,
    log: Log,
    *,
    boot_every: int,
) -> None:
    """Judge so many cuts of each state, boot what every `boot_every`-th left, and see that none is bad."""
    tools, begin = open_tools(settings), time.monotonic()
    work = guest.folder / "check"
    work.mkdir()
    ledger = digest_disk(guest.ledger)
    booted: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []

    def look(point: Point) -> None:
        row, faults = point.row, judge(point, recording.moves_in)
        if not faults and len(log.rows) % boot_every == boot_every - 1:
            row["booted"], row["boot_s"] = boot_cut(guest, tools, point, recording.base, work)
            booted["new" if row["booted"] == point.new else "old"] += 1
            assert digest_disk(guest.ledger) == ledger, "the ledger disk was changed"
        log.add(**row)
        if faults:
            bad.append({**row, "faults": faults})

    done = replay_cuts(recording, DiskCheck(tools, guest.images, work), wanted, rng, look)
    lossy = sum(1 for row in log.rows if row["kept"] < row["loose"])
    log.close(points=done, lossy=lossy, booted=booted, bad=len(bad), seconds=round(time.monotonic() - begin))
    assert not bad, f"{len(bad)} of {done.total()} cuts left a host that may not boot: {bad[:5]}"
    assert done == wanted
    assert lossy, "no cut lost a write, so nothing is proven"
    assert booted.total() >= done.total() // boot_every
