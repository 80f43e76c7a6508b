"""Bakes of the smallest recipe with the real tools: what is built, what is refused, and what a killed bake leaves behind."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bake.run import BakeResult
from bake.specs import check_layers
from qtrade.errors import NotFound, Refused, ToolError
from qtrade.manifest import Image
from qtrade.settings import load_settings
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    return make_tiny_project(load_settings(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def baked(tiny) -> BakeResult:
    """The first bake of the recipe."""
    return tiny.bake("1.0")


@pytest.fixture(autouse=True)
def _roles_as_they_were(tiny, baked) -> Iterator[None]:
    roles = tiny.settings.project / "ansible/roles"
    kept = roles.with_name("roles.kept")
    shutil.copytree(roles, kept)
    yield
    shutil.rmtree(roles)
    kept.rename(roles)


def digests(image: Image) -> dict[str, str]:
    return {layer.role: layer.digest for layer in image.layers}


def test_a_bake_publishes_a_signed_image_of_all_layers(tiny, baked) -> None:
    assert {"one", "two"} <= set(baked.built)
    assert [layer.role for layer in baked.image.layers] == ["base", "one", "two"]
    published = tiny.store.read("tiny", "1.0")
    assert Image.model_validate_json(published.image_text) == baked.image
    assert all(tiny.store.has_blob(digest) for digest in baked.image.blobs())
    assert tiny.store.find_record(baked.image.layers[2].key).paths == (
        "d 0755:0:0 usr",
        "d 0755:0:0 usr/share",
        "d 0755:0:0 usr/share/tiny",
        "f usr/share/tiny/two.txt",
    )
    assert not any(tiny.settings.work_dir.iterdir())


def test_the_same_project_again_builds_nothing(tiny, baked) -> None:
    before = list(tiny.reporter.steps)
    again = tiny.bake("1.1")
    assert (again.built, again.image.id) == ((), baked.image.id)
    assert tiny.reporter.steps == before


def test_a_change_of_one_layer_builds_that_layer_only(tiny, baked) -> None:
    tiny.add_task("two", "ansible.builtin.file", path="/usr/share/tiny/three.txt", state="touch", mode="0644")
    result = tiny.bake("1.2")
    assert result.built == ("two",)
    before, after = digests(baked.image), digests(result.image)
    assert {role for role in after if after[role] != before[role]} == {"two"}
    assert result.image.id != baked.image.id


def test_a_spec_that_does_not_hold_stops_the_image(tiny, baked) -> None:
    spec = tiny.settings.project / "ansible/roles/one/specs/test_one.py"
    spec.write_text(spec.read_text().replace('== "2"', '== "3"'))
    with pytest.raises(Refused, match="1 of 1 specs fail") as caught:
        tiny.bake("spec")
    assert caught.value.details.startswith("  one: test_jq_runs[chroot")
    with pytest.raises(Refused):
        check_layers(tiny.settings, tiny.store, tiny.recipe, baked.image, tiny.reporter)
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "spec")


def test_a_role_that_fails_names_layer_message_and_log(tiny) -> None:
    tiny.add_task("two", "ansible.builtin.fail", msg="the moon is not full")
    with pytest.raises(ToolError, match=r"^layer two failed$") as caught:
        tiny.bake("fail")
    assert "the moon is not full" in caught.value.details
    log = tiny.settings.state_dir / "logs/layer-two.log"
    assert str(log) in caught.value.resolution
    assert "the moon is not full" in log.read_text()
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "fail")


def test_a_layer_has_no_network(tiny) -> None:
    tiny.add_task("two", "ansible.builtin.command", cmd="grep -vq lo: /proc/net/dev")
    tiny.add_task("two", "ansible.builtin.shell", cmd="test $(grep -c : /proc/net/dev) = 1")
    assert tiny.bake("offline").built == ("two",)


def test_a_host_key_in_a_layer_is_refused_by_the_seal(tiny) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    tiny.add_task("two", "ansible.builtin.copy", content="key", dest=key, mode="0600")
    with pytest.raises(Refused) as caught:
        tiny.bake("key")
    assert caught.value.details == "  two: etc/ssh/ssh_host_ed25519_key"
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "key")


def test_a_killed_bake_leaves_nothing_that_runs_and_the_next_one_completes(tiny) -> None:
    good = tiny.tasks("two").read_text()
    tiny.add_task("two", "ansible.builtin.command", cmd="sleep 300")
    command = [QTRADE, "bake", "--recipe", "tiny", "--version", "killed"]
    bake = subprocess.Popen(command, env=tiny.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = str(tiny.settings.state_dir)
    work = str(Path(state, "work", "layer-two"))
    try:
        wait_for(lambda: has_program(work, "sleep"), 60)
        assert mounts(state)
    finally:
        bake.send_signal(signal.SIGKILL)
        bake.wait()
    wait_for(lambda: not (processes(state) or mounts(state) or loops(state)), 15)
    tiny.tasks("two").write_text(good + "\n# mended\n")
    assert tiny.bake("killed").built == ("two",)
    assert not any(tiny.settings.work_dir.iterdir())


def test_the_same_keys_from_scratch_give_the_same_bytes(tiny, baked) -> None:
    base = tiny.store.find_record(baked.image.layers[0].key)
    again = tiny.bake("2.0", from_scratch=True)
    assert set(again.built) == {"base", "initrd", "installer", "one", "two"}
    if tiny.store.find_record(base.key).facts != base.facts:
        pytest.skip("the package index moved on between the two bakes")
    assert digests(again.image) == digests(baked.image)
    assert again.image.id == baked.image.id
    assert again.image.installer == baked.image.installer


def wait_for(condition, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def processes(text: str) -> list[str]:
    """Return the command lines of other processes that have `text` in their arguments, working directory or root."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            places = [str((process / name).readlink()) for name in ("cwd", "root")]
        except OSError:
            continue
        if any(text in item for item in (command, *places)):
            found.append(command)
    return found


def has_program(root: str, name: str) -> bool:
    """Return whether `name` runs in a chroot below the folder `root`."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == name and root in str((process / "root").readlink()):
                return True
        except OSError:
            continue
    return False


def mounts(text: str) -> list[str]:
    """Return the mounts, in any namespace that a process is in, that have `text` in their line."""
    found = []
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found += [line for line in table.read_text().splitlines() if text in line]
        except OSError:
            continue
    return found


def loops(text: str) -> list[str]:
    """Return the loop devices whose file has `text` in its path."""
    backing = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    return [file for file in backing if text in file]
