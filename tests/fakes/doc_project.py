"""A project in which commands of the documentation run without a machine: real roles and recipes, and two signed versions in its store."""

import os
import shutil
import time
from pathlib import Path

from bake.image import read_role_inputs
from bake.roles import list_roles, read_role
from qtrade.manifest import RoleInputs
from qtrade.settings import Settings
from qtrade.trust.keyring import init_keys
from qtrade.trust.statements import CVE
from tests.fakes.examples import sha
from tests.fakes.releases import Room

_CHANGED = ("manifests", "docs", ".git", ".state", ".venv")


def copy_project(source: Path, folder: Path) -> Settings:
    """Return settings of a project in `folder` that has manifests of its own, and of `source` all else by links."""
    project = folder / "project"
    project.mkdir(parents=True)
    shutil.copytree(source / "manifests", project / "manifests")
    for path in source.iterdir():
        if path.name not in _CHANGED:
            (project / path.name).symlink_to(path)
    return Settings(project=project, state_dir=project / ".state", store=project / ".state/store")


def fill_store(settings: Settings, recipe: str, versions: tuple[str, ...]) -> None:
    """Make keys that are no lab's, and publish versions that declare what the roles do, and that passed boot tests and CVE gate."""
    init_keys(settings, expires_days=365)
    room = Room(settings)
    inputs = {role: _inputs(settings, role) for role in list_roles(settings)}
    for version in versions:
        image = room.publish(version, name=recipe, inputs=inputs, cmdline=f"quiet version={version}")
        room.say(image.id, CVE, {"snapshot": sha("tracker"), "snapshot_time": int(time.time()), "passed": True})


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables with which a shell works in the project."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("QTRADE_")},
        "QTRADE_PROJECT": str(settings.project),
        "QTRADE_STATE_DIR": str(settings.state_dir),
    }


def _inputs(settings: Settings, role: str) -> RoleInputs:
    options = read_role(settings, role).entry.options
    return read_role_inputs(settings, role, {name: option.default for name, option in options.items()})
