"""The commands of the documentation that need no machine, really run, page by page, in a project of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from qtrade.settings import Settings
from tests.doc_blocks import PROJECT, Block, all_blocks, read_blocks
from tests.fakes.doc_project import copy_project, environment_of, fill_store

pytestmark = pytest.mark.integration

# The page whose own commands make the keys. Elsewhere keys are there, two versions of recipe production, one of them promoted, and the
# host of the quickstart.
MAKE_KEYS = "docs/runbooks/keys.md"
BEFORE = Block(
    "before", 1, "sh", "run", "here", "qtrade images promote 1.4.0 --recipe production --to production --yes"
)


def _run_here() -> dict[str, tuple[Block, ...]]:
    """Return the blocks to run here, by page."""
    found: dict[str, tuple[Block, ...]] = {}
    for block in all_blocks():
        if block.value == "here":
            found[block.page] = (*found.get(block.page, ()), block)
    return found


RUN_HERE = _run_here()


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    settings = copy_project(PROJECT, tmp_path)
    if request.param != MAKE_KEYS:
        fill_store(settings, "production", ("1.4.0", "1.5.0"))
        for block in read_blocks(PROJECT / "docs/quickstart.md"):
            if block.mark == "file":
                (settings.project / block.value).write_text(block.text)
        assert _run(BEFORE, settings).returncode == 0
    return settings


@pytest.mark.parametrize("project", RUN_HERE, indirect=True, ids=RUN_HERE)
def test_commands_of_a_page_run(project: Settings, request: pytest.FixtureRequest) -> None:
    for block in RUN_HERE[request.node.callspec.params["project"]]:
        done = _run(block, project)
        assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"


def test_the_run_would_notice_a_command_that_fails(tmp_path: Path) -> None:
    project = copy_project(PROJECT, tmp_path)
    block = Block("page", 1, "sh", "run", "here", "qtrade keys show\nqtrade hosts list\n")
    done = _run(block, project)
    assert done.returncode == 4
    assert done.stderr.startswith("error: there is no trust set")


def _run(block: Block, settings: Settings) -> subprocess.CompletedProcess[str]:
    """Run a block in the project as it stands, but that media are folders beside it."""
    folder = settings.project.parent
    environment = environment_of(settings)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    (folder / "media/a").mkdir(parents=True, exist_ok=True)
    (folder / "media/b").mkdir(exist_ok=True)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text.replace("/media/", f"{folder}/media/")],
        cwd=settings.project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
