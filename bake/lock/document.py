"""The lock file: what it says, how it is read, written and compared.

`<line>.lock.json` is JSON with sorted keys and one entry per line, so that a change of one package is one line of a diff. It names no
mirror: a package is known by name, version, digest and its file name in the archive's pool.
"""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from bake.plan import digest_of
from qtrade.errors import BadInput
from qtrade.manifest.base import Model, Name, Sha256, Version
from qtrade.manifest.component import Commit
from qtrade.toolsroot import SUITE

Origin = Annotated[str, Field(min_length=1)]


class LockedPackage(Model):
    """A .deb; `filename` is relative to the archive, `size` in bytes."""

    name: str
    version: str
    architecture: str
    sha256: Sha256
    size: int
    filename: str

    @property
    def file(self) -> str:
        """The name of the file alone."""
        return Path(self.filename).name

    @property
    def identity(self) -> tuple[str, str, str]:
        """Name, version and architecture: an archive never gives two files of the same identity."""
        return self.name, self.version, self.architecture


class LockedFile(Model):
    """One file of upstream.

    `digest_from` says where its digest was read: `checksums <address>`, `GitHub release`, `Packages`, `recipe` or `first fetch`.
    `address` is where it was: of a private asset the API's, of an apt component relative to the repository. `signed_by` is the
    fingerprint of the apt repository's key.
    """

    kind: Literal["file"] = "file"
    version: Version
    address: str
    file: str
    sha256: Sha256
    size: int
    digest_from: Origin
    signed_by: str | None = None


class LockedBuild(Model):
    """What a source was built to: a tar archive, by digest. `key` covers source, builder root, commands and environment."""

    kind: Literal["build"] = "build"
    version: Version
    tag: str | None = None
    commit: Commit | None = None
    key: Sha256
    file: str
    sha256: Sha256
    size: int
    provenance: Sha256


LockedComponent = Annotated[LockedFile | LockedBuild, Field(discriminator="kind")]


class LockedCollection(Model):
    """An Ansible collection. `sha256` is that of its MANIFEST.json; the project's own has none: it is versioned with the recipe."""

    version: str
    sha256: Sha256 | None = None


class Lock(Model):
    """A recipe's lock. `wants` holds, for each part, the digest of what the recipe asked for when the part was locked."""

    schema_version: Literal[1] = 1
    recipe: Name
    suite: str
    wants: dict[str, Sha256]
    tools: tuple[LockedPackage, ...] = ()
    base: tuple[LockedPackage, ...] = ()
    layers: dict[str, tuple[LockedPackage, ...]] = Field(default_factory=dict)
    builders: dict[str, tuple[LockedPackage, ...]] = Field(default_factory=dict)
    components: dict[str, LockedComponent] = Field(default_factory=dict)
    collections: dict[str, LockedCollection] = Field(default_factory=dict)

    def packages(self) -> dict[str, tuple[LockedPackage, ...]]:
        """Return the packages of each part: `base`, `layer <role>`, `builder <component>`, `tools`."""
        layers = {f"layer {role}": packages for role, packages in self.layers.items()}
        builders = {f"builder {name}": packages for name, packages in self.builders.items()}
        return {"base": self.base, **layers, **builders, "tools": self.tools}

    def all_packages(self) -> tuple[LockedPackage, ...]:
        """Return every package once."""
        return tuple({package.sha256: package for part in self.packages().values() for package in part}.values())

    def by_suite(self) -> dict[str, tuple[LockedPackage, ...]]:
        """Return every package once, by the suite that it is of: the tools root has its own, whatever the recipe's."""
        found: dict[str, dict[str, LockedPackage]] = {}
        for part, packages in self.packages().items():
            of_suite = found.setdefault(SUITE if part == "tools" else self.suite, {})
            of_suite.update({package.sha256: package for package in packages})
        return {suite: tuple(packages.values()) for suite, packages in found.items()}

    def tools_digest(self) -> str:
        """Return the digest of the tools root's packages, for the keys of all that its programs make."""
        return digest_packages(self.tools)

    def package_fields(self) -> dict[str, dict[str, str]]:
        """Return version and digest of the packages of the base and of each layer, by name, for the layers' keys."""
        return {
            part: {
                f"{package.name}:{package.architecture}": f"{package.version} {package.sha256}" for package in packages
            }
            for part, packages in {"base": self.base, **self.layers}.items()
        }

    def collection_fields(self) -> dict[str, str]:
        """Return version and digest of the Ansible collections by name, for the layers' keys."""
        return {
            f"collection {name}": f"{collection.version} {collection.sha256 or ''}".rstrip()
            for name, collection in self.collections.items()
        }


def digest_packages(packages: Iterable[LockedPackage]) -> str:
    """Return a digest over name and content of packages, whatever their order."""
    return digest_of(sorted([*package.identity, package.sha256] for package in packages))


def render_lock(lock: Lock) -> str:
    """Return the text of the lock file."""
    document = lock.model_dump(mode="json")
    lines = [f"{json.dumps(name)}: {_render(document[name])}" for name in sorted(document)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _render(value: Any, depth: int = 0) -> str:
    """Return JSON in which an entry of a list, or a mapping without mappings or lists in it, is one line."""
    indent = " " * (depth + 1)
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(indent + _render(item, depth + 1) for item in value) + f"\n{' ' * depth}]"
    if (
        isinstance(value, dict)
        and (depth == 0 or any(isinstance(item, dict | list) for item in value.values()))
        and value
    ):
        items = [f"{indent}{json.dumps(name)}: {_render(value[name], depth + 1)}" for name in sorted(value)]
        return "{\n" + ",\n".join(items) + f"\n{' ' * depth}}}"
    return json.dumps(value, sort_keys=True)


def read_lock(path: Path) -> Lock | None:
    """Return the lock, or None when there is none. Raises `BadInput`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse_lock(content, str(path))


def parse_lock(content: bytes | str, source: str) -> Lock:
    """Parse a lock; `source` is where errors say that it stands. Raises `BadInput`."""
    try:
        return Lock.model_validate_json(content)
    except ValidationError as error:
        faults = [(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()[:5]]
        fields = "\n".join(f"  {source}: {f'{place}: ' if place else ''}{said}" for place, said in faults)
        raise BadInput(
            f"{source} is not a valid lock",
            details=fields,
            resolution="take it from version control again, or delete it and run `qtrade lock`",
        ) from error


def write_lock(lock: Lock, path: Path) -> None:
    """Write the lock whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".lock-", delete=False) as sink:
        sink.write(render_lock(lock))
    Path(sink.name).chmod(0o644)
    Path(sink.name).rename(path)
