"""How often the judge is wrong: `python -m tests.bench.judge [--soaks N] [--only TEXT]`, then `make docs-tables`."""

import argparse
import json
import sys
import time

from tests.unit.judge.page import RATES
from tests.unit.judge.rates import CASES, measure


def main() -> None:
    """Judge so many soaks of each case, the quickest cases first, and keep after each how often each verdict was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soaks", type=int, default=1000, help="soaks of each case; of some a multiple")
    parser.add_argument("--only", default="", help="cases with this text in their name")
    arguments = parser.parse_args()
    rows = {row["what"]: row for row in json.loads(RATES.read_text())} if RATES.exists() else {}
    chosen = sorted(
        (case for case in CASES if arguments.only in case.what), key=lambda case: (case.times, case.every_s)
    )
    start = time.monotonic()
    for done, case in enumerate(chosen, start=1):
        counts = measure(case, arguments.soaks * case.times)
        fields = {"what": case.what, "is_good": case.is_good, "soaks": counts.total()}
        rows[case.what] = {**fields, "verdicts": dict(sorted(counts.items()))}
        kept = [rows[one.what] for one in CASES if one.what in rows]
        RATES.write_text(json.dumps(kept, indent=1) + "\n")
        left_s = (time.monotonic() - start) / done * (len(chosen) - done)
        sys.stderr.write(f"{case.what}: {dict(counts)}; about {left_s:.0f} s left\n")


if __name__ == "__main__":
    main()
