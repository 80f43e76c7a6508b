"""Two bakes of one version at once, on one store, each with a state directory of its own: one of them wins."""

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bake.pack import sha256_file
from qtrade.errors import ConflictError
from qtrade.manifest import Image
from qtrade.settings import S3Address, load_settings
from qtrade.store import open_store
from tests.fakes.s3_server import s3_server
from tests.fakes.s3_store import CREDENTIALS, copy_store
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"
NAMES = ("red", "blue")


@pytest.fixture
def racers(tmp_path) -> dict[str, TinyProject]:
    """Two projects that differ in what layer two holds."""
    projects = {name: make_tiny_project(load_settings(), tmp_path / name) for name in NAMES}
    for name, tiny in projects.items():
        tiny.add_task("two", "ansible.builtin.copy", content=name, dest="/opt/colour", mode="0644")
    return projects


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_of_two_bakes_of_one_version_one_wins_and_the_other_is_told(racers, kind, tmp_path, monkeypatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    settings, keys = racers["red"].settings, {"QTRADE_KEYS_DIR": str(tmp_path / "keys")}
    with ExitStack() as stack:
        if kind == "s3":
            server = stack.enter_context(s3_server())
            copy_store(racers["red"].store, server)
            settings = replace(settings, store=S3Address("images", "qtrade", server.url))
            keys["QTRADE_S3_ENDPOINT"] = server.url
        codes, said = race(racers, {**keys, "QTRADE_STORE": str(settings.store)})
        assert sorted(codes.values()) == [0, ConflictError.exit_code], said
        winner, loser = sorted(NAMES, key=lambda name: codes[name])
        # Not "made of something else", as a bake is told that begins when the other one has ended.
        assert "error: version raced of tiny exists with another id\n" in said[loser], said[loser]
        assert "error" not in said[winner]
        store = open_store(settings)
        image = Image.model_validate_json(store.read("tiny", "raced").image_text)
        assert f"in the store: {image.id}\n" in said[loser]
        for digest in image.blobs():
            assert sha256_file(store.open_blob(digest)) == digest


def race(racers: dict[str, TinyProject], places: dict[str, str]) -> tuple[dict[str, int], dict[str, str]]:
    """Start both bakes at once; return exit codes and what was said on stderr."""
    command = [QTRADE, "bake", "--recipe", "tiny", "--version", "raced"]
    started = {
        name: subprocess.Popen(
            command,
            env={**tiny.environment, **places},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, tiny in racers.items()
    }
    said = {name: process.communicate(timeout=300)[1] for name, process in started.items()}
    return {name: process.returncode for name, process in started.items()}, said
