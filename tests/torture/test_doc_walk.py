"""The commands that the documentation marks `run: lab`, word for word and in the order of a reader, on lab-1.

It works in a copy of the project, whose roles it changes where a page says so. It begins where `make demo` ends, but that the host
is still on.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from qtrade.settings import Settings
from tests.doc_blocks import PROJECT, Block, all_blocks
from tests.fakes.doc_project import copy_project, environment_of

pytestmark = pytest.mark.torture

PAGES = (
    "docs/quickstart.md",
    "docs/runbooks/bake-a-release.md",
    "docs/runbooks/flash-one-host.md",
    "docs/runbooks/push.md",
    "docs/runbooks/drift.md",
    "docs/runbooks/access.md",
    "docs/runbooks/recover-a-stuck-host.md",
)
CHANGED = "ansible/roles/qtrade_client/files/usr/lib/qtrade/qtrade_client/start.py"
_BOOT_S = 1200


@dataclass(frozen=True)
class Walk:
    """A shell in the project's copy, and what a reader does between the commands."""

    settings: Settings
    environment: dict[str, str]
    log: Path

    def run(self, text: str) -> str:
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.settings.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=7200,
        )
        with self.log.open("a") as log:
            log.write(
                f"$ {text.rstrip()}\n{done.stdout}{done.stderr}[{done.returncode}, {time.monotonic() - began:.0f} s]\n\n"
            )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr[-4000:]}"
        return done.stdout

    def prepare(self, block: Block) -> None:
        """Do what the page says before a block: change a role before a bake is explained, a value before a push."""
        if " --explain" in block.text:
            with (self.settings.project / CHANGED).open("a") as role:
                role.write(f"# {block.place}\n")
        if "qtrade push" in block.text:
            manifest = self.settings.state_dir / "lab/lab-1/host.yaml"
            document = yaml.safe_load(manifest.read_text())
            document["config"]["qtrade_client_log_level"] = "debug"
            manifest.write_text(yaml.safe_dump(document, sort_keys=False))

    def wait_for_boot(self) -> None:
        deadline = time.monotonic() + _BOOT_S
        while not json.loads(self.run("qtrade hosts show lab-1 --json"))["answers"]:
            assert time.monotonic() < deadline, "lab-1 did not boot"
            time.sleep(5)


@pytest.fixture
def walk(settings: Settings, logs: Path, tmp_path: Path) -> Iterator[Walk]:
    if (settings.state_dir / "lab/lab-1").exists():
        pytest.skip("a lab-1 is there; `qtrade lab down --wipe` ends it")
    copied = replace(copy_project(PROJECT, tmp_path), state_dir=settings.state_dir)
    (copied.project / "ansible").unlink()
    shutil.copytree(PROJECT / "ansible", copied.project / "ansible", symlinks=True)
    environment = environment_of(copied) | {
        "QTRADE_STORE": str(settings.store),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    walk = Walk(copied, environment, logs / "doc-walk.log")
    try:
        yield walk
    finally:
        walk.run("qtrade lab down --wipe")


def test_a_reader_gets_through(walk: Walk) -> None:
    walk.run("qtrade bake --version 0.1.0; qtrade lab up; qtrade flash --host lab-1 --version 0.1.0 --yes")
    marked = [block for block in all_blocks() if block.value == "lab"]
    assert {block.page for block in marked} == set(PAGES)
    for block in sorted(marked, key=lambda block: (PAGES.index(block.page), block.line)):
        walk.prepare(block)
        walk.run(block.text)
        if "--power-on" in block.text:
            walk.wait_for_boot()
    shown = json.loads(walk.run("qtrade hosts show lab-1 --json"))
    assert (shown["answers"], shown["flash"]["state"], shown["lease"]["quarantine"]) == (True, "FAILED_SAFE", "")
    assert json.loads(walk.run("qtrade drift --host lab-1 --json"))["hosts"][0]["findings"] == []
