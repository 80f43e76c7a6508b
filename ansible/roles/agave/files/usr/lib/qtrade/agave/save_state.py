#!/usr/bin/python3 -ISB
"""After each stop: keep a copy of tower and vote history, and note how the validator ended.

The copies are for people and for a hand-over of the identity. Nothing puts one back: an old tower on a staked key votes twice.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

LEDGER = Path("/mnt/ledger")
STATE = Path("/var/lib/agave")
# start.py's exit code for a config that cannot work: nothing had run.
REFUSED = "78"
PATTERNS = ("tower-*.bin", "vote_history-*.bin")


def read_state(ledger: Path) -> dict[str, bytes]:
    """Return the files that hold what was voted, by name."""
    return {path.name: path.read_bytes() for pattern in PATTERNS for path in sorted(ledger.glob(pattern))}


def save_copy(files: dict[str, bytes], copies: Path, keep: int, now: float) -> Path | None:
    """Write the files to a folder named by the time, unless the newest copy is the same, and let the oldest go.

    A crash loop must not push the last good copies out, so equal ones are written once.
    """
    copies.mkdir(mode=0o700, exist_ok=True)
    for left in copies.glob(".new-*"):
        shutil.rmtree(left)
    there = sorted(path for path in copies.iterdir() if path.is_dir())
    if not files or (there and {path.name: path.read_bytes() for path in there[-1].iterdir()} == files):
        return None
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    # Where the clock was set back, the newest copy still sorts last.
    if there and name <= there[-1].name:
        name = f"{there[-1].name}+"
    fresh = copies / f".new-{name}"
    fresh.mkdir(mode=0o700)
    for file, content in files.items():
        with (fresh / file).open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    final = fresh.rename(copies / name)
    for old in there[: max(len(there) + 1 - keep, 0)]:
        shutil.rmtree(old)
    return final


def describe_stop(environment: dict[str, str], now: float) -> dict[str, object]:
    """Return how the validator ended; only an end of its own leaves bank state that the next start can use."""
    how, status = environment.get("EXIT_CODE", ""), environment.get("EXIT_STATUS", "")
    return {
        "graceful": (how, status) == ("exited", "0"),
        "how": how,
        "status": status,
        "result": environment.get("SERVICE_RESULT", ""),
        "time": int(now),
    }


def main(keep: int) -> int:
    """Copy, then note."""
    now = time.time()
    made = save_copy(read_state(LEDGER), STATE / "tower", keep, now)
    stop = describe_stop(dict(os.environ), now)
    note = STATE / ".last-stop.json"
    note.write_text(json.dumps(stop) + "\n")
    note.rename(STATE / "last-stop.json")
    if made:
        sys.stderr.write(f"agave: tower and vote history copied to {made}\n")
    if not stop["graceful"] and stop["status"] != REFUSED:
        sys.stderr.write("agave: it was not ended by `exit`: the next start loads a snapshot and takes longer\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
