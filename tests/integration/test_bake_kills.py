"""Bakes that are killed at any moment, in any kind of step, with either kind of store: nothing stays, and the next one completes."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bake import run
from bake.base import find_base
from bake.pack import sha256_file
from bake.plan import INITRD, INSTALLER, base_key, initramfs_key
from qtrade.settings import S3Address, load_settings
from tests.fakes.left_behind import loops, mounts, processes, wait_for
from tests.fakes.s3_server import S3Server, s3_server
from tests.fakes.s3_store import CREDENTIALS, copy_store
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

QTRADE = Path(sys.executable).parent / "qtrade"


@dataclass
class Killer:
    """Kills bakes of a project, and looks at what they leave."""

    tiny: TinyProject
    environment: dict[str, str] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(20))
    killed_in: list[frozenset[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.good = {role: self.tiny.tasks(role).read_text() for role in ("one", "two")}

    def change_layers(self, number: int) -> None:
        """Give both layers something new to make."""
        for role, text in self.good.items():
            self.tiny.tasks(role).write_text(text)
            self.tiny.add_task(role, "ansible.builtin.copy", content=str(number), dest=f"/opt/{role}", mode="0644")

    def kill(self, *options: str, within_s: float, at: Callable[[], object] = lambda: True) -> bool:
        """Kill a bake at a random moment after `at` holds; return False when it was quicker."""
        state = str(self.tiny.settings.state_dir)
        command = [QTRADE, "bake", "--recipe", "tiny", "--version", f"kill-{self.chance.random()}", *options]
        environment = {**self.tiny.environment, **self.environment}
        bake = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: at() or bake.poll() is not None, 60)
            bake.wait(self.chance.uniform(0.1, within_s))
        except subprocess.TimeoutExpired:
            programs = frozenset(Path(line.split(" ")[0]).name for line in processes(state))
            places = frozenset(path.name for path in self.tiny.settings.work_dir.glob("*"))
        else:
            return False
        finally:
            bake.send_signal(signal.SIGKILL)
            code = bake.wait()
        wait_for(lambda: not (processes(state) or mounts(state) or loops(state)), 15)
        if code != -signal.SIGKILL:  # it ended by itself just before
            return False
        self.killed_in.append(programs | places)
        return True

    def require_whole_blobs(self) -> None:
        for blob in (self.tiny.settings.store / "blobs").glob("[0-9a-f]*"):
            assert sha256_file(blob) == blob.name

    def watch(self, name: str) -> Callable[[], bool]:
        """Remove what a killed bake left of a step's folder, and return what says whether the next bake works there."""
        folder = self.tiny.settings.work_dir / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder.exists


@pytest.fixture
def killer(tmp_path) -> Killer:
    tiny = make_tiny_project(load_settings(), tmp_path / "tiny")
    tiny.bake("1.0")
    return Killer(tiny)


def test_bakes_killed_at_any_moment_leave_nothing_and_the_next_one_completes(killer) -> None:
    for number in range(60):
        if len(killer.killed_in) == 20:
            break
        killer.change_layers(number)
        killer.kill(within_s=6.0)
        killer.require_whole_blobs()
    assert len(killer.killed_in) == 20
    assert len(set(killer.killed_in)) > 3, "the bakes were all killed in the same place"
    require_completion(killer)


def test_bakes_killed_in_base_and_initial_ram_filesystems_leave_nothing(killer) -> None:
    tiny = killer.tiny
    for step, options in (("base", ("--from-scratch",)), (f"initramfs-{INITRD}", ()), (f"initramfs-{INSTALLER}", ())):
        killed = len(killer.killed_in)
        for _ in range(2):
            if not options:
                forget_initramfs(tiny)
            assert killer.kill(*options, within_s=2.5, at=killer.watch(step)), f"{step} was quicker"
            killer.require_whole_blobs()
        assert all(step in places for places in killer.killed_in[killed:]), killer.killed_in[killed:]
    require_completion(killer)


def test_bakes_killed_while_their_store_is_an_s3_leave_no_half_object(killer, monkeypatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    tiny = killer.tiny
    with s3_server() as server:
        copy_store(tiny.store, server)
        remote = replace(tiny.settings, store=S3Address("images", "qtrade", server.url))
        killer.environment = {"QTRADE_STORE": "s3://images/qtrade", "QTRADE_S3_ENDPOINT": server.url}
        for number in range(15):
            if len(killer.killed_in) == 5:
                break
            killer.change_layers(number)
            killer.kill(within_s=6.0)
            require_whole_objects(server)
        assert len(killer.killed_in) == 5
        made = run.bake(remote, tiny.recipe, "after-kills", tiny.reporter)
        require_whole_objects(server)
        assert {f"qtrade/blobs/{digest}" for digest in made.image.blobs()} <= set(server.objects)


def require_completion(killer: Killer) -> None:
    tiny = killer.tiny
    result = tiny.bake("after-kills")
    assert set(result.built) <= {"one", "two", INITRD, INSTALLER}
    assert not any(tiny.settings.work_dir.iterdir())
    assert not (tiny.settings.state_dir / "unsealed").exists()
    assert not list((tiny.settings.store / "blobs").glob(".*"))
    killer.require_whole_blobs()


def require_whole_objects(server: S3Server) -> None:
    for key, stored in list(server.objects.items()):
        if key.startswith("qtrade/blobs/"):
            assert hashlib.sha256(stored.content).hexdigest() == key.rpartition("/")[2]


def forget_initramfs(tiny: TinyProject) -> None:
    """Have the next bake make the initial RAM filesystems again."""
    inputs, _, _ = run.gather(tiny.settings, tiny.store, tiny.recipe, tiny.reporter)
    base = find_base(tiny.store, base_key(tiny.recipe, inputs))
    assert base is not None
    for name in (INITRD, INSTALLER):
        key = initramfs_key(name, tiny.recipe, inputs, base.layer)
        (tiny.settings.store / "records" / f"{key}.json").unlink(missing_ok=True)
