"""docs/bad-inputs.md, made of what the cases show. `python -m tests.unit.bad_inputs.page` writes it; `make docs-tables` calls it."""

from collections.abc import Mapping
from pathlib import Path

from tests.unit.bad_inputs.cases import CASES, GROUPS
from tests.unit.bad_inputs.run import Seen, run_case

PAGE = Path(__file__).resolve().parents[3] / "docs/bad-inputs.md"
_HEAD = """\
<!-- Made by `make docs-tables` of tests/unit/bad_inputs: each row was run. Change that. -->
# Bad inputs

What the user sees when an input is wrong, and what to do. Every error is one `error:` line, the details below it with file, line, field
and what was found, and a line `To mend it:`. It goes to stderr; stdout stays empty, and nothing is written before all inputs hold. Exit
codes are those of [exit-codes.md](exit-codes.md).
"""


def render_page(seen: Mapping[str, Seen]) -> str:
    """Return the page."""
    blocks = [_HEAD]
    for title, cases in GROUPS.items():
        rows = [
            f"| {_cell(case.what)} | `{case.command}` | {seen[case.name].code} | {_said(seen[case.name])} | {_cell(seen[case.name].cure)} |"
            for case in cases
        ]
        head = "| wrong | command `qtrade …` | code | what qtrade says | to mend it |\n| --- | --- | --- | --- | --- |"
        blocks.append("\n".join((f"## {title}\n", head, *rows)))
    return "\n".join(blocks).replace("\n## ", "\n\n## ").replace("\n\n\n", "\n\n") + "\n"


def _said(seen: Seen) -> str:
    return "<br>".join(_cell(line) for line in seen.said)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(render_page({case.name: run_case(case) for case in CASES}))
