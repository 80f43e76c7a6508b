"""The table of docs/workflows.md: each job's permissions, environment and concurrency, as the workflows have them.

`python -m qtrade.github.table` writes it (`make schemas` does); a test holds it.
"""

from pathlib import Path
from typing import Any

import yaml

BEGIN, END = "<!-- permissions: made by `make schemas` -->", "<!-- end of permissions -->"
_PAGE = Path("docs/workflows.md")


def read_workflow(path: Path) -> dict[str, Any]:
    """Return a workflow's document. YAML 1.1 takes the key `on` for a boolean; it is `on` here."""
    document = yaml.safe_load(path.read_text())
    return {("on" if key is True else str(key)): value for key, value in document.items()}


def render_table(workflows: Path) -> str:
    """Return the table as Markdown, one row per job, workflows by name."""
    rows = ["| workflow | job | permissions | environment | concurrency |", "|---|---|---|---|---|"]
    for path in sorted(workflows.glob("*.yml")):
        for name, job in read_workflow(path)["jobs"].items():
            granted = ", ".join(f"{what}: {level}" for what, level in job["permissions"].items()) or "none"
            group = job.get("concurrency", {}).get("group", "")
            cells = [cell.replace("|", "\\|") for cell in (path.name, name, granted, job.get("environment", ""), group)]
            rows.append("| " + " | ".join(f"`{cell}`" if cell else "" for cell in cells) + " |")
    return "\n".join(rows)


def put_table(page: str, table: str) -> str:
    """Return the page with the table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    """Write the table into the page of the working directory's project."""
    _PAGE.write_text(put_table(_PAGE.read_text(), render_table(Path(".github/workflows"))))


if __name__ == "__main__":
    main()
