"""A whole OS disk in a file, as the installer lays it out (docs/architecture.md, "OS disk"): no loop device, no mount, no root.

What stands where is said by `python -m flash.disk_contents`, which is made of the agent's own functions.
"""

import base64
import json
import os
import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bake.output.esp import make_esp
from bake.output.ext4 import BLOCK_BYTES, Entry, Ext4, make_ext4, read_free
from bake.output.installer import extract_grub
from qtrade import process
from qtrade.errors import BadInput, ToolError
from qtrade.manifest import Image
from qtrade.signing import PublicKey
from qtrade.store import PublishedImage, Store
from qtrade.toolsroot import ToolsRoot

MIB = 1 << 20
# Two images fit, so that the host can be flashed in place; a twentieth is the filesystem's own.
_IMAGES = 2
_PARTITIONS = ("bios_boot", "qtrade-esp", "qtrade-system", "qtrade-state")
_PROGRAM = "flash.disk_contents"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class DiskLayout:
    """Sizes in MiB. Those of ESP and system are the defaults of host manifests, so that a later flash can keep the layout."""

    esp_mib: int = 128
    system_mib: int = 8192
    state_mib: int = 2048

    @property
    def size_bytes(self) -> int:
        """Return the size of the disk: the partitions, bios_boot, and 1 MiB at each end for the partition table."""
        return (self.esp_mib + self.system_mib + self.state_mib + 3) * MIB


@dataclass(frozen=True)
class GuestConfig:
    """What makes a disk one host's: values for the files that the image declares, and files for the state partition as they are.

    `users` and `groups` map names to numbers. Published disk images have none of this.
    """

    host: str
    values: dict[str, Any]
    users: dict[str, int]
    groups: dict[str, int]
    files: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class DiskImage:
    """A raw disk in a sparse file. `mapped` are its blocks (of `BLOCK_BYTES`) that must be written; the others' content is free."""

    path: Path
    size_bytes: int
    mapped: tuple[range, ...] = field(default=())


def build_disk(  # noqa: PLR0913 - a disk is made of this much
    tools: ToolsRoot,
    store: Store,
    published: PublishedImage,
    trusted: tuple[PublicKey, ...],
    folder: Path,
    *,
    layout: DiskLayout,
    config: GuestConfig | None = None,
) -> DiskImage:
    """Write `disk.raw` into the empty `folder` (same image, keys and layout: same bytes), and return it.

    Raises `BadInput` when the image does not fit the layout, `TrustError` for a blob that is altered, `ToolError`.
    """
    image = Image.model_validate_json(published.image_text)
    _check_room(image, layout)
    blobs = open_blobs(store, image)
    grub = folder / "grub"
    grub.mkdir()
    extract_grub(tools, blobs[image.installer.digest], grub)
    request = _make_request(published, image, trusted, folder, layout)
    answer = _ask(request | {"grub": str(grub), "config": config and {"host": config.host, "values": config.values}})
    names = {name: str(_uuid(image, f"{name} filesystem")) for name in _PARTITIONS}
    esp, system, state = (folder / f"{name}.img" for name in ("esp", "system", "state"))
    make_esp(
        tools,
        esp,
        folder / "esp",
        command=answer["formats"]["esp"],
        size_bytes=layout.esp_mib * MIB,
        serial=names["qtrade-esp"][:8],
        epoch=image.epoch,
    )
    make_ext4(
        tools,
        system,
        Ext4(answer["formats"]["system"], layout.system_mib * MIB, names["qtrade-system"], image.epoch),
        [
            *(Entry(str(path.relative_to(folder / "system")), path) for path in _files(folder / "system")),
            *(Entry(path, blobs[digest]) for path, digest in answer["blobs"].items()),
        ],
    )
    make_ext4(
        tools,
        state,
        Ext4(answer["formats"]["state"], layout.state_mib * MIB, names["qtrade-state"], image.epoch),
        _state_entries(folder, image.id, config, answer["config"]) if config else (),
    )
    return _assemble(tools, folder, layout, answer["table"], {"qtrade-system": system, "qtrade-state": state})


def open_blobs(store: Store, image: Image) -> dict[str, Path]:
    """Return the files of the image's blobs and of its installer by digest, each read once. Raises `TrustError` for an altered one."""
    return {digest: store.open_blob(digest) for digest in (*image.blobs(), image.installer.digest)}


def _assemble(
    tools: ToolsRoot, folder: Path, layout: DiskLayout, table: str, filesystems: dict[str, Path]
) -> DiskImage:
    path = folder / "disk.raw"
    with path.open("wb") as disk:
        disk.truncate(layout.size_bytes)
    tools.run("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", path, stdin=table.encode())
    rows = json.loads(tools.run("sfdisk", "--json", path).stdout)["partitiontable"]["partitions"]
    starts = {row["name"]: row["start"] * 512 for row in rows}
    if tuple(starts) != _PARTITIONS:
        raise ToolError("sfdisk wrote another partition table than it was told", details=json.dumps(rows))
    size_blocks, esp_start = layout.size_bytes // BLOCK_BYTES, starts["qtrade-esp"]
    mapped = [range((esp_start + layout.esp_mib * MIB) // BLOCK_BYTES)]
    with path.open("r+b") as disk:
        _copy(folder / "boot.img", disk.fileno(), 0, None)
        _copy(folder / "core.img", disk.fileno(), starts["bios_boot"], None)
        _copy(folder / "esp.img", disk.fileno(), esp_start, None)
        for name, filesystem in filesystems.items():
            used = _complement(read_free(tools, filesystem), filesystem.stat().st_size // BLOCK_BYTES)
            _copy(filesystem, disk.fileno(), starts[name], used)
            first = starts[name] // BLOCK_BYTES
            mapped += [range(first + blocks.start, first + blocks.stop) for blocks in used]
            filesystem.unlink()
    mapped.append(range(size_blocks - MIB // BLOCK_BYTES, size_blocks))
    return DiskImage(path, layout.size_bytes, _join(mapped))


def _copy(source: Path, disk: int, offset: int, used: Iterable[range] | None) -> None:
    """Copy the `used` blocks of a file (None: all of it) onto the disk, leaving holes where there are only zeros."""
    with source.open("rb") as file:
        size_bytes = source.stat().st_size
        pieces = [(0, size_bytes)] if used is None else [(b.start * BLOCK_BYTES, len(b) * BLOCK_BYTES) for b in used]
        for start, length in pieces:
            for at in range(start, start + length, _CHUNK_BYTES):
                file.seek(at)
                chunk = file.read(min(_CHUNK_BYTES, start + length - at))
                if any(chunk):
                    os.pwrite(disk, chunk, offset + at)


def _complement(free: Iterable[range], size_blocks: int) -> list[range]:
    used, at = [], 0
    for blocks in free:
        if blocks.start > at:
            used.append(range(at, blocks.start))
        at = blocks.stop
    return [*used, range(at, size_blocks)] if at < size_blocks else used


def _join(ranges: Iterable[range]) -> tuple[range, ...]:
    joined: list[range] = []
    for blocks in ranges:
        if joined and joined[-1].stop == blocks.start:
            joined[-1] = range(joined[-1].start, blocks.stop)
        else:
            joined.append(blocks)
    return tuple(joined)


def _check_room(image: Image, layout: DiskLayout) -> None:
    size_mib = sum(image.blobs().values()) // MIB + 1
    if _IMAGES * size_mib > layout.system_mib * 19 // 20:
        raise BadInput(
            f"a system partition of {layout.system_mib} MiB is too small",
            details=f"{image.name} {image.version} has {size_mib} MiB, and a second image must fit for flashes in place",
            resolution=f"make system_mib {_IMAGES * size_mib * 20 // 19 + 1} or more",
        )


def _uuid(image: Image, name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, f"qtrade {image.id} {name}")


def _make_request(
    published: PublishedImage, image: Image, trusted: tuple[PublicKey, ...], folder: Path, layout: DiskLayout
) -> dict[str, Any]:
    return {
        "image": {
            "id": image.id,
            "version": image.version,
            "list": published.list_text,
            "sig": base64.b64encode(published.list_sig).decode(),
            "image_json": published.image_text,
        },
        "trust": [key.pem for key in trusted],
        "folder": str(folder),
        "layout": {"esp_mib": layout.esp_mib, "system_mib": layout.system_mib},
        "disk_uuid": str(_uuid(image, "disk")),
        # In small letters: blkid in the initramfs compares them as text.
        "part_uuids": [str(_uuid(image, f"{name} partition")) for name in _PARTITIONS],
        "cmdline": "",
    }


def _ask(request: dict[str, Any]) -> Any:
    here = str(Path(__file__).resolve().parents[2])
    done = process.run(
        [sys.executable, "-P", "-B", "-m", _PROGRAM],
        env={"PYTHONPATH": here},
        stdin=json.dumps(request).encode(),
        timeout_s=120,
        check=False,
    )
    if done.returncode != 0:
        raise ToolError("the contents of the disk cannot be made", details=done.stderr)
    return json.loads(done.stdout)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _state_entries(folder: Path, image_id: str, config: GuestConfig, files: list[dict[str, Any]]) -> list[Entry]:
    entries = [*config.files, Entry("config/current", target="1"), Entry(f"config/by-image/{image_id}", target="../1")]
    for number, file in enumerate(files):
        source = folder / f"config{number}"
        source.write_bytes(base64.b64decode(file["content"]))
        owner, group = config.users.get(file["owner"]), config.groups.get(file["group"])
        if owner is None or group is None:
            raise BadInput(
                f"config file {file['path']} belongs to {file['owner']}:{file['group']}, which manifests/ids.yaml does not have",
                resolution="add the user or group to the table, or correct the role's config/inputs.yml",
            )
        entries.append(Entry(f"config/1/{file['path']}", source, mode=int(file["mode"], 8), uid=owner, gid=group))
    return entries
