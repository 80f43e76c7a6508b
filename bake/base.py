"""The base layer: a Debian root by mmdebstrap with the project's user ids, and its kernel."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bake import pack
from bake.plan import KERNEL, digest_of
from qtrade import process
from qtrade.errors import ToolError
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings
from qtrade.store import BlobRecord, Store
from qtrade.toolsroot import ToolsRoot, debootstrap


@dataclass(frozen=True)
class Base:
    """A base that was made: its layer, its kernel, and where its package index is kept."""

    layer: BlobRecord
    kernel: BlobRecord


def kernel_key(key: str) -> str:
    """Return the key of the kernel that came with the base of `key`."""
    return digest_of([KERNEL, key])


def index_folder(settings: Settings, key: str) -> Path:
    """Return where the package index of the base of `key` is kept, so that its layers see the same packages."""
    return settings.cache_dir / "index" / key


def find_base(settings: Settings, store: Store, key: str) -> Base | None:
    """Return the base of `key` if all of it is there."""
    layer, kernel = store.find_record(key), store.find_record(kernel_key(key))
    if layer is None or kernel is None or not index_folder(settings, key).is_dir():
        return None
    return Base(layer, kernel)


def make_base(settings: Settings, tools: ToolsRoot, store: Store, recipe: Recipe, key: str) -> Base:
    """Make the base layer (root, network). Raises `ToolError`."""
    work = settings.work_dir / "base"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    tree = work / "tree"
    index = work / "index"
    debootstrap(
        settings,
        recipe.base.suite,
        (recipe.base.kernel, *recipe.base.packages),
        tree,
        _ids_hook(settings),
        "--skip=cleanup/apt/lists",
        epoch=recipe.epoch,
    )
    process.run(["cp", "-a", str(tree / "var/lib/apt/lists"), str(index)])
    _clean(tree)
    kernels = sorted((tree / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise ToolError(f"the base has {len(kernels)} kernels, not one", details=str([path.name for path in kernels]))
    kernel = work / "kernel"
    shutil.copyfile(kernels[0], kernel)
    release = kernels[0].name.removeprefix("vmlinuz-")
    packed = pack.pack_layer(tools, tree, work / "base.erofs", name=BASE, epoch=recipe.epoch)
    layer = BlobRecord(
        key, BASE, packed.digest, packed.size, packed.verity, packed.paths, {"index": _index_digest(index)}
    )
    digest = pack.sha256_file(kernel)
    kernel_record = BlobRecord(kernel_key(key), KERNEL, digest, kernel.stat().st_size, facts={"release": release})
    target = index_folder(settings, key)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    index.rename(target)
    store.add_blob(kernel, digest)
    store.add_record(kernel_record)
    store.add_blob(packed.path, packed.digest)
    store.add_record(layer)
    shutil.rmtree(work)
    return Base(layer, kernel_record)


def _ids_hook(settings: Settings) -> str:
    code = Path(__file__).resolve().parent.parent
    table = settings.project / "manifests/ids.yaml"
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
    (tree / "etc/machine-id").write_text("uninitialized\n")
    (tree / "etc/machine-id").chmod(0o444)
    resolver = tree / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")


def _index_digest(index: Path) -> str:
    lists = sorted(
        path
        for path in index.iterdir()
        if path.is_file() and path.name.endswith(("_Packages", "_Packages.lz4", "_Packages.xz"))
    )
    return digest_of([[path.name, pack.sha256_file(path)] for path in lists])
