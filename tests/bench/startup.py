"""How long `qtrade --help` takes beside `python -c pass`, for everybody at every command: `python -m tests.bench.startup [--runs 15]`.

Both run in turns, so that a busy machine slows both; the ratio of the medians says more than the seconds do.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

_WANTED_S = 0.3
_WANTED_RATIO = 15.0
_SHOWN = 12
# A model, a driver or a client that one command needs must not be paid for by all of them.
_HEAVY = ("ansible", "boto3", "cryptography", "httpx", "jinja2", "pydantic", "rich", "ruamel", "sushy", "yaml")


def main() -> int:
    """Measure, print the result as JSON, and return 1 when help is slow by both measures, or imports what it need not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    seconds: dict[str, list[float]] = {"qtrade --help": [], "python -c pass": []}
    commands = {
        "qtrade --help": [str(Path(sys.executable).parent / "qtrade"), "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    for _ in range(runs):
        for name, argv in commands.items():
            start = time.perf_counter()
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(measured) for name, measured in seconds.items()}
    ratio = medians["qtrade --help"] / medians["python -c pass"]
    heavy = imported_by_help()
    result = {
        "medians_s": {name: round(value, 3) for name, value in medians.items()},
        "ratio": round(ratio, 1),
        "heavy": heavy,
        "slowest_imports_ms": slowest_imports(),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    is_slow = medians["qtrade --help"] > _WANTED_S and ratio > _WANTED_RATIO
    return 1 if is_slow or heavy else 0


def imported_by_help() -> list[str]:
    """Return the heavy packages that the command line imports before any command runs."""
    code = f"import sys, qtrade.cli; print(*sorted({set(_HEAVY)!r} & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def slowest_imports() -> dict[str, float]:
    """Return the modules that took longest to import, themselves and all they import, in milliseconds (`-X importtime`)."""
    argv = [sys.executable, "-X", "importtime", "-c", "import qtrade.cli"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stderr
    rows = [line.removeprefix("import time:").split("|") for line in said.splitlines() if line.count("|") == 2]
    took = {name.strip(): int(total) / 1000 for _, total, name in rows if total.strip().isdigit()}
    return dict(sorted(took.items(), key=lambda item: -item[1])[:_SHOWN])


if __name__ == "__main__":
    sys.exit(main())
