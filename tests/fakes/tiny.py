"""A project with the smallest recipe, in a state directory of its own that borrows what is dear to make."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bake import run
from bake.base import find_base, index_folder
from bake.plan import INITRD, INSTALLER, base_key, initramfs_key
from qtrade.manifest import Recipe
from qtrade.settings import Settings
from qtrade.store import BlobRecord, LocalStore
from tests.fakes.reporter import RecordingReporter

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
        names = {"QTRADE_PROJECT": self.settings.project, "QTRADE_STATE_DIR": self.settings.state_dir}
        return {**os.environ, **{name: str(path) for name, path in names.items()}}

    def bake(self, version: str, *, from_scratch: bool = False) -> run.BakeResult:
        return run.bake(self.settings, self.recipe, version, self.reporter, from_scratch=from_scratch)

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
    shutil.copyfile(real.project / "manifests/ids.yaml", project / "manifests/ids.yaml")
    path = project / "manifests/images/tiny.yaml"
    lab = yaml.safe_load((real.project / "manifests/images/lab.yaml").read_text())
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "base": lab["base"], "epoch": lab["epoch"]}))
    (state / "cache").mkdir(parents=True)
    for name in ("roots", "cache/debs"):
        (real.state_dir / name).mkdir(parents=True, exist_ok=True)
        (state / name).symlink_to(real.state_dir / name)
    tiny = TinyProject(Settings(project=project, state_dir=state, store=state / "store"))
    _borrow_base(real, tiny)
    return tiny


def _borrow_base(real: Settings, tiny: TinyProject) -> None:
    """Copy base, kernel and initial RAM filesystems of the real store, if the real project has made them."""
    inputs, _ = run._gather(tiny.settings, tiny.recipe)
    theirs = LocalStore(real.store)
    key = base_key(tiny.recipe, inputs)
    base = find_base(real, theirs, key)
    if base is None:
        return
    shutil.copytree(index_folder(real, key), index_folder(tiny.settings, key))
    others = [theirs.find_record(initramfs_key(name, inputs, base.layer)) for name in (INITRD, INSTALLER)]
    for record in (base.layer, base.kernel, *others):
        if record is not None:
            _borrow(theirs, tiny, record)


def _borrow(theirs: LocalStore, tiny: TinyProject, record: BlobRecord) -> None:
    copy = tiny.settings.state_dir / record.digest
    shutil.copyfile(theirs.open_blob(record.digest), copy)
    tiny.store.add_blob(copy, record.digest)
    tiny.store.add_record(record)
