"""The commands of the documentation that need no machine, really run, page by page, in a project of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from qtrade.settings import Settings
from tests.doc_blocks import PROJECT, Block, pages, read_blocks
from tests.fakes.doc_project import copy_project, environment_of, fill_store

pytestmark = pytest.mark.integration

# Pages whose own commands make the keys; elsewhere keys and two versions of recipe production are there.
MAKE_KEYS = "docs/runbooks/keys.md"


def _run_here() -> dict[str, tuple[Block, ...]]:
    """Return the marked blocks of each page that has a command to run here: those to run and the files that they need."""
    found = {}
    for page in pages():
        blocks = tuple(block for block in read_blocks(page) if block.mark == "file" or block.value == "here")
        if any(block.value == "here" for block in blocks):
            found[blocks[0].page] = blocks
    return found


RUN_HERE = _run_here()


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    settings = copy_project(PROJECT, tmp_path)
    if request.param != MAKE_KEYS:
        fill_store(settings, "production", ("1.4.0", "1.5.0"))
    return settings


@pytest.mark.parametrize("project", RUN_HERE, indirect=True, ids=RUN_HERE)
def test_commands_of_a_page_run(project: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    ran = 0
    for block in RUN_HERE[request.node.callspec.params["project"]]:
        if block.mark == "file":
            target = project.project / block.value
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
            continue
        done = _run(block, project, tmp_path)
        assert done.returncode == 0, f"{block.place}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran


def test_the_run_would_notice_a_command_that_fails(tmp_path: Path) -> None:
    project = copy_project(PROJECT, tmp_path)
    block = Block("page", 1, "sh", "run", "here", "qtrade keys show\nqtrade hosts list\n")
    done = _run(block, project, tmp_path)
    assert done.returncode == 4
    assert done.stderr.startswith("error: there is no trust set")


def _run(block: Block, settings: Settings, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as it stands, but that media are folders here."""
    environment = environment_of(settings)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    (folder / "media/a").mkdir(parents=True, exist_ok=True)
    (folder / "media/b").mkdir(exist_ok=True)
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text.replace("/media/", f"{folder}/media/")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
