"""A Tab in bash, zsh and fish completes commands, hosts, environments and versions, by the script that qtrade itself prints."""

import os
import sys
from pathlib import Path

import pytest

from qtrade.settings import load_settings
from tests.fakes.examples import make_settings
from tests.fakes.projects import publish_image, write_project
from tests.fakes.shells import Shells, unpack_shells

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def unpacked() -> Path:
    return unpack_shells(load_settings().cache_dir)


@pytest.fixture
def shells(unpacked, tmp_path) -> Shells:
    settings = make_settings(tmp_path / "there")
    write_project(settings)
    for version in ("0.9.0", "0.10.0"):
        publish_image(settings, version=version)
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "QTRADE_PROJECT": str(settings.project),
        "QTRADE_STATE_DIR": str(settings.state_dir),
        "QTRADE_STORE": str(settings.store),
    }
    return Shells(unpacked, env)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("qtrade his", ["history"]),
        ("qtrade hosts sh", ["show"]),
        ("qtrade flash --host ", ["rpc-1"]),
        ("qtrade ssh rp", ["rpc-1"]),
        ("qtrade history --env dev", ["development"]),
    ],
)
def test_names_complete(shells, shell, line, offered) -> None:
    assert shells.complete(shell, line) == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_versions_complete(shells, shell) -> None:
    assert sorted(shells.complete(shell, "qtrade images show ")) == ["0.10.0", "0.9.0"]
    assert shells.complete(shell, "qtrade flash --host rpc-1 --version 0.1") == ["0.10.0"]
