"""A project, a state directory and a store that are in order, so that each case spoils one thing."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qtrade.manifest import RoleInputs
from qtrade.manifest.inputs import InputSecret
from qtrade.settings import Settings
from qtrade.trust.keyring import init_keys
from tests.fakes.examples import host_fields, make_recipe, recipe_fields
from tests.fakes.locks import write_lock_of
from tests.fakes.releases import Room

HOST, ENVIRONMENT = "manifests/hosts/rpc-1.yaml", "manifests/environments/development.yaml"
RECIPE, LOCK = "manifests/images/demo.yaml", "manifests/images/demo.lock.json"
VAULT = "secrets/development.yml"
VERSION = "versions/demo/0.1.0.json"


@dataclass
class Place:
    """What a case may spoil. `unset` and `set` go to the environment, `is_forbidden` runs it as somebody whom permissions stop."""

    settings: Settings
    environment: dict[str, str] = field(default_factory=dict)
    is_forbidden: bool = False
    path: str | None = None
    undo: list[Callable[[], None]] = field(default_factory=list)

    @property
    def project(self) -> Path:
        return self.settings.project

    @property
    def store(self) -> Path:
        return self.settings.store if isinstance(self.settings.store, Path) else Path()

    @property
    def room(self) -> Room:
        return Room(self.settings)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.project / name).parent.mkdir(parents=True, exist_ok=True)
        (self.project / name).write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace a part of a file of the project, which must be there."""
        text = (self.project / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        (self.project / name).write_text(text.replace(old, new, 1))

    def append(self, name: str, text: str) -> None:
        """Add to the end of a file of the project."""
        self.write(name, (self.project / name).read_text() + text)

    def set_host(self, name: str = "rpc-1", **changes: Any) -> None:
        """Write the manifest of a host with other fields."""
        fields = given({**FIELDS, "name": name, **changes})
        self.write(f"manifests/hosts/{name}.yaml", render(fields))

    def set_version(self, **changes: Any) -> None:
        """Replace fields of the published version's document in the store."""
        path = self.store / VERSION
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def forbid(self, path: Path, mode: int = 0) -> None:
        """Take permissions away, and run the case as somebody whom that stops."""
        kept = path.stat().st_mode & 0o7777
        path.chmod(mode)
        self.is_forbidden = True
        self.undo.append(lambda: path.chmod(kept))

    def encrypt(self, name: str, text: str, password: str) -> None:
        """Write an ansible-vault file of the project."""
        secret = self.settings.state_dir / "password"
        secret.write_text(password)
        self.write(name, text)
        program = Path(sys.executable).parent / "ansible-vault"
        command = [program, "encrypt", "--vault-password-file", secret, self.project / name]
        subprocess.run(command, check=True, capture_output=True)
        secret.unlink()

    def snapshot(self) -> dict[str, str]:
        """Return a digest of every file of project, state directory and store."""
        found = {}
        for root in (self.project, self.settings.state_dir):
            for folder, _, names in os.walk(root):
                for name in names:
                    path = Path(folder, name)
                    found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        return found


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {key: value for key, value in fields.items() if value is not None}


FIELDS: dict[str, Any] = given(
    host_fields(driver={"kind": "ssh"}, doors=["in_place", "kexec"], ssh=None, data_disks=None, secrets={}, config={})
)


def render(fields: dict[str, Any]) -> str:
    return yaml.safe_dump(fields, sort_keys=False)


def make_place(settings: Settings) -> Place:
    """Fill a project: host rpc-1 of recipe demo, three environments, a lock; keys; and demo 0.1.0 in the store, signed."""
    place = Place(settings)
    place.set_host()
    for name in ("development", "staging", "production"):
        allows = name == "development"
        place.write(
            f"manifests/environments/{name}.yaml", render({"schema_version": 1, "name": name, "allow_standins": allows})
        )
    for layer in recipe_fields()["layers"]:
        (place.project / "ansible/roles" / layer["role"]).mkdir()
    for name in ("agent", "parts"):
        place.write(f"{name}/file", name)
    place.write("manifests/ids.yaml", "schema_version: 1\n")
    place.write(RECIPE, render(recipe_fields()))
    write_lock_of(settings, make_recipe())
    init_keys(settings)
    secret = InputSecret(name="datadog_api_key", units=())
    place.room.publish(tested=False, inputs={"app": RoleInputs(secrets=(secret,))})
    for path in settings.state_dir.glob("new-*"):
        path.unlink()
    return place
