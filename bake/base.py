"""The base layer: a Debian root by mmdebstrap with the project's user ids, and its kernel."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bake import pack
from bake.lock.document import Lock
from bake.lock.repository import make_repository
from bake.plan import KERNEL, digest_of
from bake.unsealed import Unsealed
from qtrade.errors import ToolError
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.reporter import ConsoleReporter
from qtrade.settings import Settings
from qtrade.store import BlobRecord, Store
from qtrade.toolsroot import ToolsRoot, debootstrap

_NO_SOURCES = "# Packages come with the image: bake another one instead of installing here.\n"


@dataclass(frozen=True)
class Base:
    """A base that was made: its layer and its kernel."""

    layer: BlobRecord
    kernel: BlobRecord


def kernel_key(key: str) -> str:
    """Return the key of the kernel that came with the base of `key`."""
    return digest_of([KERNEL, key])


def find_base(store: Store | Unsealed, key: str) -> Base | None:
    """Return the base of `key` if all of it is there."""
    layer, kernel = store.find_record(key), store.find_record(kernel_key(key))
    return None if layer is None or kernel is None else Base(layer, kernel)


def make_base(settings: Settings, tools: ToolsRoot, unsealed: Unsealed, recipe: Recipe, lock: Lock, key: str) -> Base:
    """Make the base layer of exactly the locked packages and keep it back for the seal (root).

    Raises `ToolError`, and `TrustError` for a changed .deb.
    """
    from bake.lock.debs import have_packages  # noqa: PLC0415 - a bake that makes nothing needs no downloads

    work = settings.work_dir / "base"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tree = work / "tree"
    repository = work / "repository"
    have_packages(settings, lock.base, ConsoleReporter(quiet=True), suite=lock.suite)
    make_repository(settings, lock.base, suite=lock.suite, target=repository)
    names = tuple(package.name for package in lock.base)
    debootstrap(settings, lock.suite, names, tree, _ids_hook(settings), epoch=recipe.epoch, repository=repository)
    _clean(tree)
    kernels = sorted((tree / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise ToolError(f"the base has {len(kernels)} kernels, not one", details=str([path.name for path in kernels]))
    kernel = work / "kernel"
    shutil.copyfile(kernels[0], kernel)
    release = kernels[0].name.removeprefix("vmlinuz-")
    packed = pack.pack_layer(tools, tree, work / "base.erofs", name=BASE, epoch=recipe.epoch)
    layer = BlobRecord(key, BASE, packed.digest, packed.size, packed.verity)
    digest = pack.sha256_file(kernel)
    kernel_record = BlobRecord(kernel_key(key), KERNEL, digest, kernel.stat().st_size, facts={"release": release})
    unsealed.store.add_blob(kernel, digest)
    unsealed.store.add_record(kernel_record)
    unsealed.add(packed.path, layer, packed.paths)
    shutil.rmtree(work)
    return Base(layer, kernel_record)


def _ids_hook(settings: Settings) -> str:
    code = Path(__file__).resolve().parent.parent
    table = settings.find("manifests/ids.yaml")
    return f'--essential-hook=PYTHONPATH={code} {sys.executable} -P -B -m bake.ids "$1" {table}'


def _clean(tree: Path) -> None:
    """Remove what belongs to a machine or to the bake (the seal checks it again)."""
    for pattern in (
        "etc/ssh/ssh_host_*",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
        "etc/apt/apt.conf.d/99mmdebstrap",
        "var/lib/dbus/machine-id",
        "etc/*-",
        "etc/.pwd.lock",
        "var/cache/ldconfig/aux-cache",
        "etc/hostname",
    ):
        for path in tree.glob(pattern):
            path.unlink()
    # Hosts install nothing: another package is another image. What stood here was the bake's own repository.
    (tree / "etc/apt/sources.list").write_text(_NO_SOURCES)
    (tree / "etc/machine-id").write_text("uninitialized\n")
    (tree / "etc/machine-id").chmod(0o444)
    resolver = tree / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")
