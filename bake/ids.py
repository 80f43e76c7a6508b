"""The table of fixed user and group ids, and writing it into a root before any package is installed."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, model_validator

from qtrade.manifest import load_manifest
from qtrade.manifest.base import Model


class Group(Model):
    """A group with its fixed id."""

    name: str
    gid: int = Field(gt=0, lt=65535)


class User(Model):
    """A user with its fixed id. No user has a password."""

    name: str
    uid: int = Field(gt=0, lt=65535)
    group: str
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    gecos: str = ""
    groups: tuple[str, ...] = ()


class Ids(Model):
    """The table (manifests/ids.yaml). Ids are never used again for another name."""

    schema_version: int
    groups: tuple[Group, ...]
    users: tuple[User, ...]

    @model_validator(mode="after")
    def _names_resolve(self) -> "Ids":
        known = {group.name for group in self.groups}
        for user in self.users:
            unknown = {user.group, *user.groups} - known
            if unknown:
                raise ValueError(f"user {user.name} is in group {min(unknown)}, which the table does not have")
        columns: dict[str, list[int] | list[str]] = {
            "group": [group.name for group in self.groups],
            "user": [user.name for user in self.users],
            "gid": [group.gid for group in self.groups],
            "uid": [user.uid for user in self.users],
        }
        for kind, column in columns.items():
            twice = next((value for value, count in Counter(column).items() if count > 1), None)
            if twice is not None:
                raise ValueError(f"{kind} {twice} stands twice")
        return self


def write_ids(root: Path, ids: Ids) -> None:
    """Write the table into /etc/passwd, group, shadow and gshadow of `root`; entries that are there are replaced."""
    gids = {group.name: group.gid for group in ids.groups}
    members = {name: ",".join(user.name for user in ids.users if name in user.groups) for name in gids}
    _merge(root / "etc/group", {name: f"{name}:x:{gid}:{members[name]}" for name, gid in gids.items()}, 0o644)
    _merge(
        root / "etc/passwd",
        {
            user.name: f"{user.name}:x:{user.uid}:{gids[user.group]}:{user.gecos}:{user.home}:{user.shell}"
            for user in ids.users
        },
        0o644,
    )
    # The day of the last change of the password is day 1: no clock gets into the image.
    _merge(root / "etc/shadow", {user.name: f"{user.name}:!*:1:0:99999:7:::" for user in ids.users}, 0o640)
    _merge(root / "etc/gshadow", {name: f"{name}:!::{members[name]}" for name in gids}, 0o640)


def _merge(path: Path, entries: dict[str, str], mode: int) -> None:
    kept = path.read_text().splitlines() if path.exists() else []
    lines = [line for line in kept if line.split(":", 1)[0] not in entries]
    path.write_text("\n".join([*lines, *entries.values()]) + "\n")
    path.chmod(mode)


def _main(root: str, table: str, load: Callable[[type[Ids], Path], Ids] = load_manifest) -> None:
    write_ids(Path(root), load(Ids, Path(table)))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
