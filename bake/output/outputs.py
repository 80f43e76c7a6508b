"""Write a published image in the forms that were asked for, with one signed list of checksums."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bake import pack
from bake.output.bmap import hash_ranges, render_bmap
from bake.output.disk import DiskImage, DiskLayout, build_disk, open_blobs
from bake.output.ext4 import BLOCK_BYTES
from bake.output.netboot import write_netboot
from qtrade.errors import ConflictError
from qtrade.manifest import Image
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.signing import PublicKey, SigningKey
from qtrade.store import Store
from qtrade.toolsroot import ToolsRoot, open_tools
from qtrade.trust.images import load_trusted
from qtrade.trust.keyring import ensure_keyring

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
_LEVEL = "-3"


class Kind(StrEnum):
    """A form of output."""

    RAW = "raw"
    QCOW2 = "qcow2"
    NETBOOT = "netboot"


@dataclass(frozen=True)
class OutputFile:
    """A file of an export; `name` is relative to the folder."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Exported:
    """What an export wrote, `files` sorted by name; SHA256SUMS and its signature stand beside them."""

    folder: Path
    files: tuple[OutputFile, ...]


def export(  # noqa: PLR0913, PLR0917 - the options of the command
    settings: Settings,
    store: Store,
    recipe: str,
    version: str,
    kinds: Iterable[Kind],
    to: Path | None,
    reporter: Reporter,
    *,
    layout: DiskLayout | None = None,
) -> Exported:
    """Write version `version` of `recipe` as `kinds` into the folder `to` (None: outputs/<recipe>/<version> of the state directory).

    Needs no root. Each file appears whole, SHA256SUMS last. Files of the same name are replaced, those of earlier exports stay listed.
    Raises `NotFound`, `TrustError` when no trusted build key signed the image or a blob is altered, `BadInput` when the image does not
    fit the layout, `ConflictError` when another export writes into the folder, `ToolError`.
    """
    tools = open_tools(settings)
    keyring = ensure_keyring(settings)
    key = keyring.signer("build")
    published = store.read(recipe, version)
    load_trusted(published, recipe, version, keyring.trust)
    folder = (to or settings.state_dir / "outputs" / recipe / version).absolute()
    wanted = set(kinds)
    stem = f"{recipe}_{version}"
    with _alone(folder), tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as made:
        done = Path(made) / "done"
        done.mkdir()
        if wanted & {Kind.RAW, Kind.QCOW2}:
            work = Path(made) / "disk"
            work.mkdir()
            with reporter.step("disk image"):
                disk = build_disk(
                    tools, store, published, keyring.trust.builders(), work, layout=layout or DiskLayout()
                )
            if Kind.RAW in wanted:
                with reporter.step("raw"):
                    _write_raw(tools, disk, done, stem)
            if Kind.QCOW2 in wanted:
                with reporter.step("qcow2"):
                    _write_qcow2(tools, disk, done / f"{stem}.qcow2")
            shutil.rmtree(work)
        if Kind.NETBOOT in wanted:
            with reporter.step("netboot"):
                netboot = done / f"{stem}.netboot"
                netboot.mkdir()
                image = Image.model_validate_json(published.image_text)
                write_netboot(tools, published, open_blobs(store, image), netboot)
        files = _list_files(done)
        _move_all(done, folder)
        _write_sums(folder, files, key)
    return Exported(folder, files)


def _write_raw(tools: ToolsRoot, disk: DiskImage, folder: Path, stem: str) -> None:
    ranges = hash_ranges(disk.path, disk.mapped, BLOCK_BYTES)
    (folder / f"{stem}.raw.bmap").write_text(render_bmap(disk.size_bytes, BLOCK_BYTES, ranges))
    # The number of threads does not change the bytes, as long as it is given (--single-thread would).
    threads = f"-T{min(4, os.cpu_count() or 1)}"
    tools.run("zstd", "-q", _LEVEL, threads, disk.path, "-o", folder / f"{stem}.raw.zst", timeout_s=3600)


def _write_qcow2(tools: ToolsRoot, disk: DiskImage, path: Path) -> None:
    options = "compat=1.1,compression_type=zstd,lazy_refcounts=off"
    tools.run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, disk.path, path, timeout_s=3600)


def _list_files(folder: Path) -> tuple[OutputFile, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        OutputFile(str(path.relative_to(folder)), path.stat().st_size, pack.sha256_file(path)) for path in paths
    )


def _move_all(done: Path, folder: Path) -> None:
    """Rename what was made into place; a netboot set of an earlier export is moved away whole first."""
    for path in sorted(done.iterdir()):
        target = folder / path.name
        if target.is_dir():
            target.rename(done.parent / f"old-{path.name}")
        path.rename(target)


def _write_sums(folder: Path, files: tuple[OutputFile, ...], key: SigningKey) -> None:
    sums = {**_read_sums(folder, key.public), **{file.name: file.sha256 for file in files}}
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    for name, content in ((SIGNATURE, key.sign(text.encode())), (SUMS, text.encode())):
        fresh = folder / f".new-{name}"
        fresh.write_bytes(content)
        fresh.replace(folder / name)


def _read_sums(folder: Path, key: PublicKey) -> dict[str, str]:
    """Return what earlier exports listed and is still there; nothing unless the list is signed by `key`."""
    try:
        text, signature = (folder / SUMS).read_bytes(), (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        return {}
    if not key.verify(signature, text):
        return {}
    rows = (line.partition("  ") for line in text.decode().splitlines())
    return {name: digest for digest, _, name in rows if (folder / name).is_file()}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder and hold it; what a killed export left in it is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"another export writes into {folder}", resolution="wait for it, or name another folder with --to"
            ) from error
        for stale in folder.glob(".new-*"):
            if stale.is_dir():
                shutil.rmtree(stale)
            else:
                stale.unlink()
        yield
    finally:
        os.close(handle)
