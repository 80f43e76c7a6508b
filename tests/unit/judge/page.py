"""docs/judge.md: the scenarios as they were judged, and the rates of tests/bench/judge.py. `make docs-tables` calls `python -m` of this."""

import json
from pathlib import Path

from tests.unit.judge.scenarios import SCENARIOS, Scenario

_ROOT = Path(__file__).resolve().parents[3]
PAGE = _ROOT / "docs/judge.md"
RATES = _ROOT / "tests/bench/judge_rates.json"
_HEAD = """\
<!-- Made by `make docs-tables` of tests/unit/judge: each scenario was judged. Change that. -->
# The judge, tested

What the judge says of soaks with known answers, by the default gates. How it comes to it: [How health is judged](judging.md). Every soak is
20 minutes of looks at a canary and three control hosts, 15 seconds apart, where nothing else is said.
"""
_RATES = """\
## False alarms and misses

Generated soaks, each with another seed, by the soft gates of the defaults; hard gates compare with bounds and have no chance in them.
A **false alarm** is a good version that fails: it would be rolled back and blocked. A **miss** is a bad one that passes. What is
inconclusive pauses the rollout until somebody looks or more was seen. Values scatter log-normally (sigma 0.25 for RPC p99, 0.02 for CPU
frequency), with a correlation of 0.3 from look to look; hosts differ by 3 %. `python -m tests.bench.judge` measures it anew.
"""


def render_page() -> str:
    """Return the page."""
    groups = list(dict.fromkeys(one.group for one in SCENARIOS))
    blocks = [_HEAD]
    for group in groups:
        head = "| what happens | expected | judged | gate | what the judge says |\n| --- | --- | --- | --- | --- |"
        blocks.append("\n".join((f"## {group}\n", head, *(_row(one) for one in SCENARIOS if one.group == group), "")))
    blocks.append(f"{_RATES}\n{_rates()}")
    return "\n".join(blocks)


def _row(scenario: Scenario) -> str:
    found = scenario.judge()
    first = found.findings[0]
    told = (
        f"`{first.gate}` | {_cell(f'{first.host}: {first.why}')}" if scenario.gate or found.verdict != "pass" else " | "
    )
    return f"| {_cell(scenario.what)} | {scenario.expected} | {found.verdict} | {told} |"


def _rates() -> str:
    rows = json.loads(RATES.read_text())
    head = "| version | what happens | soaks | pass | inconclusive | fail |\n| --- | --- | ---: | ---: | ---: | ---: |"
    return "\n".join([head, *(_rate(row) for row in rows), ""])


def _rate(row: dict) -> str:
    counts = [row["verdicts"].get(verdict, 0) for verdict in ("pass", "inconclusive", "fail")]
    shares = [f"{count / row['soaks']:.2%}" for count in counts]
    wrong = 2 if row["is_good"] else 0
    shares[wrong] = f"**{shares[wrong]}**"
    return f"| {'good' if row['is_good'] else 'bad'} | {_cell(row['what'])} | {row['soaks']} | {' | '.join(shares)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(render_page())
