"""The site is built by the real generator without a warning, and needs no network, built or read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doc_blocks import PROJECT

pytestmark = pytest.mark.integration

# What a browser fetches by itself; a link that somebody clicks is none of it.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*\bhref="(?:https?:)?//|@import|url\(["']?(?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build without a network, which `unshare` takes away."""
    state = tmp_path_factory.mktemp("state")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "docs.site"],
        cwd=PROJECT,
        env={**os.environ, "QTRADE_STATE_DIR": str(state)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()).parent


def test_pages_menu_and_pictures_are_there(site: Path) -> None:
    index = (site / "index.html").read_text()
    for page in (
        "quickstart",
        "threat-model",
        "reference/commands",
        "runbooks/keys",
        "adr/0001-layers-all-the-way",
        "reference/roles/agave",
    ):
        assert (site / f"{page}.html").is_file(), page
        assert f'href="{page}.html"' in index, f"the menu lacks {page}"
    assert {path.name for path in (site / "_images").iterdir()} >= {"states.svg", "boot.svg", "doors.svg", "trust.svg"}


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = {
        str(path.relative_to(site)): found[0]
        for path in site.rglob("*")
        if path.suffix in (".html", ".css") and (found := _FETCHED.search(path.read_text()))
    }
    assert fetched == {}
    assert _FETCHED.search('<link rel="stylesheet" href="https://fonts.example.org/x.css">')


def test_a_warning_ends_the_build(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    for name in ("qtrade", "bake", "flash", "ansible", "packer", "manifests", "tests"):
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to(PROJECT / name)
    subprocess.run(["cp", "-r", PROJECT / "docs", folder / "docs"], check=True)
    (folder / "docs/concepts.md").write_text("# Concepts\n\n[nowhere](missing.md)\n")
    done = subprocess.run(
        [sys.executable, "-m", "docs.site"],
        cwd=folder,
        env={**os.environ, "QTRADE_STATE_DIR": str(tmp_path / "state"), "QTRADE_PROJECT": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 1
    assert "cross-reference target not found: 'missing.md'" in done.stderr
