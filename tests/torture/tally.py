"""Sums up the runs of a test over many seeds, from <state>/torture/seed-*/<test>.jsonl: `python -m tests.torture.tally killed|replayed`."""

import json
import sys
from collections import Counter
from pathlib import Path

from qtrade.settings import load_settings


def tally(folder: Path, name: str) -> str:
    """Return a table of Markdown: of each state the cuts, what booted after them, and how many were aimed at an earlier state.

    Of cuts whose disks are judged, only some are booted as well.
    """
    seeds = sorted(path.parent.name for path in folder.glob(f"seed-*/{name}.jsonl"))
    rows = [json.loads(line) for seed in seeds for line in (folder / seed / f"{name}.jsonl").read_text().splitlines()]
    lines = ["| state | cuts | old booted | new booted | aimed earlier |", "|---|---|---|---|---|"]
    for state in dict.fromkeys(row["state"] for row in rows):
        mine = [row for row in rows if row["state"] == state]
        came = Counter("new" if row["booted"] == row["new"] else "old" for row in mine if "booted" in row)
        earlier = sum(row.get("aimed", state) != state for row in mine)
        lines.append(f"| {state} | {len(mine)} | {came['old']} | {came['new']} | {earlier} |")
    timed = [row.get("seconds") or row["boot_s"] for row in rows if "booted" in row]
    each = f", {len(timed)} booted, {sum(timed) / len(timed):.0f} s each" if timed else ""
    return "\n".join([*lines, "", f"{len(rows)} cuts with {len(seeds)} seeds{each}: {', '.join(seeds)}", ""])


if __name__ == "__main__":
    sys.stdout.write(tally(load_settings().state_dir / "torture", sys.argv[1] if len(sys.argv) > 1 else "killed"))
