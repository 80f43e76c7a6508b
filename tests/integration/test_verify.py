"""`bake --verify`: the same bytes from a second bake elsewhere; what differs is named by layer, file and package."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bake.pack import sha256_file
from bake.verify import _compare
from flash.agent.kexec import pack_files
from qtrade.errors import NotFound, Refused
from qtrade.manifest import Image
from qtrade.settings import load_settings
from qtrade.store import LocalStore
from tests.fakes.tiny import QTRADE, TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

VERIFY = ("bake", "--recipe", "tiny", "--verify")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    """A project whose second store has the borrowed base too: tests/torture/test_reproducible.py makes all of an image twice."""
    real = load_settings()
    tiny = make_tiny_project(real, tmp_path_factory.mktemp("verify"))
    shutil.copytree(real.project / "manifests/environments", tiny.settings.project / "manifests/environments")
    if tiny.settings.store.is_dir():
        shutil.copytree(tiny.settings.store, second_store(tiny).root, copy_function=os.link)
    return tiny


@pytest.fixture(scope="module")
def verified(tiny) -> tuple[Image, str]:
    """The first image, and what its bake said."""
    done = tiny.run(*VERIFY, "--version", "verified")
    assert done.returncode == 0, done.stderr
    return read_image(tiny, "verified"), done.stderr


@pytest.fixture(autouse=True)
def _roles_as_they_were(tiny) -> Iterator[None]:
    kept = tiny.tasks("two").read_text()
    yield
    tiny.tasks("two").write_text(kept)


def read_image(tiny: TinyProject, version: str) -> Image:
    return Image.model_validate_json(tiny.store.read("tiny", version).image_text)


def second_store(tiny: TinyProject) -> LocalStore:
    return LocalStore(tiny.settings.state_dir / "second-bake/store")


def add_shell(tiny: TinyProject, command: str) -> None:
    tiny.add_task("two", "ansible.builtin.shell", cmd=command)


def test_the_second_bake_is_followed_and_what_it_proved_is_attested(tiny, verified) -> None:
    _, said = verified
    assert "second bake: … layer two" in said
    assert "second bake: tiny verified " in said
    plan = tiny.qtrade("images", "promote", "verified", "--recipe", "tiny", "--to", "dev", "--json")
    assert plan["tests_passed"] == ["layer", "reproducible"]
    assert "tests passed: layer, reproducible" in tiny.run("images", "verify", "verified", "--recipe", "tiny").stdout


def test_a_planted_clock_host_name_place_and_packages_file_are_named(tiny, verified) -> None:
    add_shell(tiny, "date +%Y > /opt/year")
    add_shell(tiny, "hostname > /opt/host")
    add_shell(tiny, "date +%F >> /usr/share/doc/apt/copyright")
    tiny.add_task("two", "ansible.builtin.copy", content="{{ ansible_host }}", dest="/opt/place", mode="0644")
    # A bake has a umask of its own, whatever the caller's.
    add_shell(tiny, "umask > /opt/umask; test $(cat /opt/umask) = 0022")
    done = tiny.run(*VERIFY, "--version", "planted")
    assert done.returncode == Refused.exit_code, done.stderr
    told = done.stderr.split("not reproducible: ")[1].splitlines()
    assert told[:5] == [
        "4 difference(s) between two bakes",
        "  two: opt/host: content",
        "  two: opt/place: content",
        "  two: opt/year: content",
        "  two: usr/share/doc/apt/copyright (package apt): content",
    ]
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "planted")


def test_the_second_store_holds_one_image_and_no_more(tiny, verified) -> None:
    add_shell(tiny, "echo 2 > /opt/other")
    assert tiny.run(*VERIFY, "--version", "other").returncode == 0
    image = read_image(tiny, "other")
    assert image.id != verified[0].id
    blobs = {path.name for path in (second_store(tiny).root / "blobs").iterdir() if len(path.name) == 64}
    documents = {name for name in blobs - set(image.blobs()) - {image.installer.digest} if is_document(tiny, name)}
    assert blobs - documents == {*image.blobs(), image.installer.digest}
    assert verified[0].layers[2].digest not in blobs


def is_document(tiny: TinyProject, digest: str) -> bool:
    """Return whether a blob is a JSON document, such as a bill of materials."""
    return second_store(tiny).open_blob(digest).read_bytes()[:1] == b"{"


def test_a_killed_bake_ends_its_second_bake(tiny, verified) -> None:
    add_shell(tiny, "test $(hostname) != qtrade-verify || sleep 617")
    command = [QTRADE, *VERIFY, "--version", "killed"]
    bake = subprocess.Popen(command, env=tiny.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # The words stand in the first bake's arguments too, where the shell does not come to the sleep.
        wait_for(lambda: running(f"{tiny.settings.state_dir}/second-bake"), 240)
        wait_for(lambda: running("sleep 617"), 240)
    finally:
        bake.kill()
        bake.wait()
    wait_for(lambda: not running("sleep 617"), 15)
    wait_for(lambda: not running(f"{tiny.settings.state_dir}/second-bake"), 15)


def wait_for(condition, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def running(text: str) -> list[str]:
    """Return the command lines of processes that have `text` in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


@pytest.mark.parametrize("name", ["initrd", "installer"])
def test_files_of_an_initial_ram_filesystem_are_named(tiny, verified, tmp_path, name) -> None:
    image = verified[0]
    mine = getattr(image, name)
    other = tmp_path / "other"
    planted = pack_files({"usr/share/planted/stamp": sys.version.encode(), "usr/bin/bash": b"other"})
    other.write_bytes(planted + tiny.store.open_blob(mine.digest).read_bytes())
    digest = sha256_file(other)
    tiny.store.add_blob(other, digest)
    again = image.model_copy(update={name: mine.model_copy(update={"digest": digest})})
    work = tmp_path / "work"
    work.mkdir()
    found = [str(item) for item in _compare(tiny.settings, (tiny.store, tiny.store), (image, again), work)]
    shutil.rmtree(work)
    assert f"{name}: usr/share/planted/stamp: only in the second bake" in found
    assert f"{name}: usr/bin/bash (package bash): only in the second bake" in found
