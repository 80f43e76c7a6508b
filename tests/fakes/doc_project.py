"""A project in which commands of the documentation run without a machine: real roles and recipes, and two signed versions in its store."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from bake.image import read_role_inputs
from bake.roles import list_roles, read_role
from qtrade.manifest import RoleInputs
from qtrade.settings import Settings
from qtrade.trust.keyring import init_keys, load_keyring
from qtrade.trust.operators import admit_key, request_key
from qtrade.trust.policy import Rules
from qtrade.trust.promotion import approve
from qtrade.trust.release import plan_approval
from qtrade.trust.statements import BENCH, CVE, INTEGRATION, ROLLOUT
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
        _say_seen_on_staging(room, image.id, recipe, version)
    _approve(room, recipe, versions)


def _say_seen_on_staging(room: Room, image_id: str, recipe: str, version: str) -> None:
    """Attest what production asks for."""
    now, where = int(time.time()), {"environment": "staging", "version": version}
    room.say(image_id, ROLLOUT, {**where, "hosts": ["rpc-9"], "soak_s": 86400, "committed_at": now}, role="job")
    room.say(image_id, INTEGRATION, {**where, "hosts": ["rpc-9"], "passed": True, "at": now}, role="job")
    bench = {"kind": "load", "host": "rpc-9", "recipe": recipe, "hardware_class": "A", "at": now, "seconds": 60}
    room.say(image_id, BENCH, {**where, **bench, "metrics": {"bench.rpc_p99_ms": 4.0}}, role="job")


def _approve(room: Room, recipe: str, versions: tuple[str, ...]) -> None:
    """Admit a second operator, who approves the next promotions to production whatever they are."""
    settings = room.settings
    anna = replace(settings, keys=settings.state_dir / "anna")
    anna.keys_dir.mkdir(parents=True)
    public = anna.keys_dir / "anna.pem"
    public.write_text(request_key(anna).pem)
    admit_key(settings, public)
    for name in ("trust.json", "root.pem"):
        (anna.keys_dir / name).write_bytes((settings.keys_dir / name).read_bytes())
    rules, keyring = Rules("production", "production", allow_standins=False, needs_cve_gate=False), load_keyring(anna)
    for version in versions:
        now = int(time.time())
        plan = plan_approval(room.store, keyring, rules, recipe, version, expires_days=90, now=now)
        for sequence in range(1, 5):
            approve(room.store, keyring, replace(plan, sequence=sequence), within_days=1, now=now)


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
