"""A project with the smallest recipe, in a state directory of its own that borrows what is dear to make."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bake import run
from bake.base import find_base
from bake.check import check_key
from bake.check_initramfs import initramfs_check_key
from bake.lock.check import lock_path
from bake.plan import INITRD, INSTALLER, Inputs, base_key, initramfs_key
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings
from qtrade.store import BlobRecord, LocalStore
from tests.fakes.documents import fields_of
from tests.fakes.lab_layers import have_turn, make_base
from tests.fakes.reporter import RecordingReporter

QTRADE = Path(sys.executable).parent / "qtrade"
FIXTURE = Path(__file__).resolve().parents[1] / "fixtures/tiny"


@dataclass
class TinyProject:
    """The project, and bakes of it."""

    settings: Settings
    reporter: RecordingReporter = field(default_factory=RecordingReporter)

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.settings.store)

    @property
    def recipe(self) -> Recipe:
        return run.load_recipe(self.settings, "tiny")

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which `qtrade` works on this project."""
        own = {"PROJECT": self.settings.project, "STATE_DIR": self.settings.state_dir, "STORE": self.settings.store}
        return {**os.environ, **{f"QTRADE_{name}": str(value) for name, value in own.items()}}

    def bake(self, version: str, *, from_scratch: bool = False) -> run.BakeResult:
        return run.bake(self.settings, self.recipe, version, self.reporter, from_scratch=from_scratch)

    def qtrade(self, *arguments: str) -> Any:
        """Run `qtrade` with `--json` among its arguments and return the document that it prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return fields_of(done.stdout)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `qtrade` to its end."""
        return subprocess.run([QTRADE, *arguments], env=self.environment, check=False, capture_output=True, text=True)

    def shell(self, role: str, commands: str, *, expect: str, code: int = 1) -> str:
        """Type `commands` into `qtrade bake shell` on a terminal of its own; return what it showed."""
        command = shlex.join([str(QTRADE), "bake", "shell", role, "--recipe", "tiny"])
        done = subprocess.run(
            ["script", "--quiet", "--return", "--command", command, "/dev/null"],
            env=self.environment,
            check=False,
            input=f"{commands}exit\n",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout
        assert expect in done.stdout
        return done.stdout

    def tasks(self, role: str) -> Path:
        return self.settings.project / f"ansible/roles/{role}/tasks/main.yml"

    def add_task(self, role: str, module: str, **arguments: Any) -> None:
        """Append a task to a role."""
        tasks = yaml.safe_load(self.tasks(role).read_text())
        self.tasks(role).write_text(yaml.safe_dump([*tasks, {"name": "Added", module: arguments}]))


def make_tiny_project(real: Settings, folder: Path) -> TinyProject:
    """Return the project, with templates, ids, base and epoch of the `real` one, and its tools and downloads."""
    project, state = folder / "project", folder / "state"
    shutil.copytree(FIXTURE, project, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(real.project / "packer", project / "packer")
    for name in ("manifests/ids.yaml", "manifests/seal.yaml", "ansible/specs.ini"):
        shutil.copyfile(real.project / name, project / name)
    path = project / "manifests/images/tiny.yaml"
    lab = yaml.safe_load((real.project / "manifests/images/lab.yaml").read_text())
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "base": lab["base"], "epoch": lab["epoch"]}))
    (state / "cache").mkdir(parents=True)
    for name in ("roots", "cache/debs", "cache/blobs", "cache/builders"):
        (real.state_dir / name).mkdir(parents=True, exist_ok=True)
        (state / name).symlink_to(real.state_dir / name)
    tiny = TinyProject(Settings(project=project, state_dir=state, store=state / "store"))
    make_base(real)
    _borrow_base(real, tiny, _borrow_lock(real, tiny))
    return tiny


def own_cache(tiny: TinyProject) -> Path:
    """Give the project a cache of its own with the same files, so that a test may spoil them; return its folder."""
    blobs = tiny.settings.cache_dir / "blobs"
    shared = blobs.resolve()
    blobs.unlink()
    shutil.copytree(shared, blobs, copy_function=os.link)
    return blobs


def spoil(path: Path) -> None:
    """Change the last byte of a file, which may be shared with other caches: theirs stays."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)


def _borrow_lock(real: Settings, tiny: TinyProject) -> Inputs:
    """Take the lock that another test made of the same recipe; without one that fits, make it. Returns what keys are made of."""
    path, kept = lock_path(tiny.settings, tiny.recipe), real.state_dir / "tests/tiny.lock.json"
    with have_turn(real):
        if kept.exists():
            path.parent.mkdir(parents=True)
            shutil.copyfile(kept, path)
        inputs, _, _ = run.gather(tiny.settings, tiny.store, tiny.recipe, tiny.reporter)
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, kept)
    return inputs


def _borrow_base(real: Settings, tiny: TinyProject, inputs: Inputs) -> None:
    """Copy base, kernel and initial RAM filesystems of the real store, as checked as they are there.

    Debian may have changed between the two locks; then the project makes its own.
    """
    theirs, recipe = LocalStore(real.store), tiny.recipe
    base = find_base(theirs, base_key(recipe, inputs))
    if base is None:
        return
    for record in (base.layer, base.kernel):
        _borrow(theirs, tiny, record)
    checks = [check_key(tiny.settings, recipe, BASE, {BASE: base.layer})]
    for name in (INITRD, INSTALLER):
        record = theirs.find_record(initramfs_key(name, recipe, inputs, base.layer))
        if record is not None:
            _borrow(theirs, tiny, record)
            checks.append(initramfs_check_key(tiny.settings, name, record))
    for key in checks:
        passed = theirs.find_record(key)
        if passed is not None:
            tiny.store.add_record(passed)


def _borrow(theirs: LocalStore, tiny: TinyProject, record: BlobRecord) -> None:
    copy = tiny.settings.state_dir / record.digest
    shutil.copyfile(theirs.open_blob(record.digest), copy)
    tiny.store.add_blob(copy, record.digest)
    is_layer = bool(record.verity)
    tiny.store.add_record(record, theirs.paths(record) if is_layer else None)
