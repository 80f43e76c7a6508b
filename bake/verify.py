"""Bake a second time, elsewhere and at another time, and compare bytes: what differs is a clock, a chance or a machine that got in.

The second bake has a state directory of its own, so its layers are made on the second bake's layers, with another host name, time zone,
umask and clock; only mmdebstrap, which does not bear the shifted clock, keeps the machine's. What was found equal once is not made a
third time: the key of a step says what its bytes are made of.
"""

import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qtrade import clock, process
from qtrade.errors import Refused
from qtrade.manifest import Image, Recipe
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import LocalStore, Store
from qtrade.toolsroot import open_tools

_FOLDER = "second-bake"
_STORE = "store"
_SHARED = ("roots", "cache", "standins", "locks")
_DAYS_AHEAD = 400
_SHOWN = 20
_TIMEOUT_S = 7200
# Another umask and host name for all that follows.
_SHELL = 'hostname qtrade-verify && umask 077 && exec "$@"'


@dataclass(frozen=True)
class Difference:
    """A file that the two bakes made differently: the package that owns it, if any, and in what it differs."""

    layer: str
    path: str
    package: str
    what: str

    def __str__(self) -> str:
        owner = f" (package {self.package})" if self.package else ""
        return f"{self.layer}: {self.path}{owner}: {self.what}"


def verify(settings: Settings, store: Store, recipe: Recipe, image: Image, reporter: Reporter) -> None:
    """Bake the recipe again and compare with `image`. Raises `Refused`, naming layer, file and package of each difference."""
    second = _second_settings(settings)
    with reporter.step("second bake, elsewhere"):
        again = _bake_again(settings, second, recipe, image.version)
    parts = [(layer.role, layer.digest, other.digest) for layer, other in zip(image.layers, again.layers, strict=True)]
    differing = [part for part in parts if part[1] != part[2]]
    others = [
        name
        for name, mine, theirs in (
            ("kernel", image.kernel, again.kernel),
            ("initrd", image.initrd, again.initrd),
            ("installer", image.installer, again.installer),
        )
        if mine != theirs
    ]
    if not differing and not others and image == again:
        return
    owners = _Owners(settings, store, image)
    found = []
    for role, mine, theirs in differing:
        blobs = store.open_blob(mine), LocalStore(second.state_dir / _STORE).open_blob(theirs)
        found += [str(difference) for difference in _explain(settings, role, blobs, owners)]
    found += [f"{name}: its bytes" for name in others]
    shown = found[:_SHOWN] + ([f"… and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else [])
    raise Refused(
        f"{recipe.name} {image.version} is not reproducible: {len(found)} difference(s) between two bakes",
        details="\n".join(f"  {line}" for line in shown or ["image.json"]),
        resolution="change the role so that its files do not depend on time, chance, machine or place",
    )


def _second_settings(settings: Settings) -> Settings:
    state = settings.state_dir / _FOLDER
    state.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        link = state / name
        if not link.is_symlink() and (settings.state_dir / name).exists():
            link.symlink_to(f"../{name}")
    return Settings(project=settings.project, state_dir=state, store=state / _STORE)


def _bake_again(settings: Settings, second: Settings, recipe: Recipe, version: str) -> Image:
    shutil.rmtree(second.state_dir / _STORE / "versions" / recipe.name, ignore_errors=True)
    command = [sys.executable, "-m", "qtrade.cli", "bake", "--recipe", recipe.name, "--version", version, "--json"]
    env = {
        "QTRADE_PROJECT": str(settings.project),
        "QTRADE_STATE_DIR": str(second.state_dir),
        "QTRADE_STORE": str(second.store),
        "TZ": "Pacific/Kiritimati",
        clock.VARIABLE: str(_DAYS_AHEAD),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }
    process.run(["unshare", "--uts", "--", "sh", "-c", _SHELL, "sh", *command], env=env, timeout_s=_TIMEOUT_S)
    published = LocalStore(second.state_dir / _STORE).read(recipe.name, version)
    return Image.model_validate_json(published.image_text)


def _explain(settings: Settings, role: str, blobs: tuple[Path, Path], owners: "_Owners") -> Iterator[Difference]:
    """Unpack both blobs of a layer and yield what differs."""
    work = settings.work_dir / "verify"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tools = open_tools(settings)
    trees = []
    for name, blob in zip(("first", "second"), blobs, strict=True):
        tools.run("fsck.erofs", f"--extract={work / name}", "--xattrs", blob)
        trees.append(_list_tree(work / name))
    for path in sorted({*trees[0], *trees[1]}):
        before, after = trees[0].get(path), trees[1].get(path)
        if before != after:
            yield Difference(role, path, owners.package_of(path), _differs(before, after))
    if trees[0] == trees[1]:
        yield Difference(role, "/", "", "the blob's bytes, though all files are equal")
    shutil.rmtree(work)


def _list_tree(root: Path) -> dict[str, dict[str, str]]:
    found = {}
    for folder, folders, files in os.walk(root):
        here = (".",) if Path(folder) == root else ()
        for name in (*here, *folders, *files):
            path = Path(folder) / name
            facts = path.lstat()
            fields = {
                "mode": f"{facts.st_mode:o}",
                "owner": f"{facts.st_uid}:{facts.st_gid}",
                "time": str(int(facts.st_mtime)),
                "attributes": _attributes(path),
            }
            if stat.S_ISREG(facts.st_mode):
                with path.open("rb") as source:
                    fields["content"] = hashlib.file_digest(source, "sha256").hexdigest()
            elif stat.S_ISLNK(facts.st_mode):
                fields["target"] = os.readlink(path)  # noqa: PTH115 - compared as it is written
            found[path.relative_to(root).as_posix()] = fields
    return found


def _attributes(path: Path) -> str:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return ", ".join(f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}" for name in names)


def _differs(before: dict[str, str] | None, after: dict[str, str] | None) -> str:
    if before is None:
        return "only in the second bake"
    if after is None:
        return "only in the first bake"
    return ", ".join(sorted(name for name in {*before, *after} if before.get(name) != after.get(name)))


class _Owners:
    """Which package owns a path, by the file lists of the package database in the image's layers."""

    def __init__(self, settings: Settings, store: Store, image: Image) -> None:
        self._settings, self._store, self._image = settings, store, image
        self._known: dict[str, str] | None = None

    def package_of(self, path: str) -> str:
        """Return the package's name, or an empty text."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(f"/{path}", "")

    def _read(self) -> dict[str, str]:
        tools = open_tools(self._settings)
        known = {}
        for layer in self._image.layers:
            folder = self._settings.work_dir / f"owners-{layer.role}"
            blob = self._store.open_blob(layer.digest)
            done = tools.run("fsck.erofs", f"--extract={folder}", blob, check=False)
            if done.returncode == 0:
                for listing in (folder / "var/lib/dpkg/info").glob("*.list"):
                    package = listing.name.removesuffix(".list").partition(":")[0]
                    known.update(dict.fromkeys(listing.read_text().splitlines(), package))
            shutil.rmtree(folder, ignore_errors=True)
        return known
