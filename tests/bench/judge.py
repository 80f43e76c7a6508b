"""How often the judge is wrong: `python -m tests.bench.judge [--soaks 1000]`, into judge_rates.json; then `make docs-tables`."""

import argparse
import json
import sys
import time

from tests.unit.judge.page import RATES
from tests.unit.judge.rates import CASES, measure


def main() -> None:
    """Judge so many soaks of each case, and write how often each verdict was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soaks", type=int, default=1000, help="soaks of each case")
    soaks = parser.parse_args().soaks
    start, rows = time.monotonic(), []
    for done, case in enumerate(CASES, start=1):
        counts = measure(case, soaks * case.times)
        rows.append(
            {
                "what": case.what,
                "is_good": case.is_good,
                "soaks": counts.total(),
                "verdicts": dict(sorted(counts.items())),
            }
        )
        left_s = (time.monotonic() - start) / done * (len(CASES) - done)
        sys.stderr.write(f"{case.what}: {dict(counts)}; about {left_s:.0f} s left\n")
    RATES.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
