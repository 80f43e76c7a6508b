"""Judges the disk of a host whose power was cut, without booting it.

The agent's own code does it where it has some, else the tools beside it. GRUB replays no journal, so what it reads (boot choice, boot
entry, kernel, initrd) is read without one here too; what the initramfs reads is read after a replay.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flash.agent import boot, ondisk
from flash.agent.disks import LABELS
from flash.agent.errors import AgentError
from qtrade.toolsroot import ToolsRoot
from tests.torture import tiny_grub
from tests.torture.tiny_image import TinyImages

_SECTOR = 512
# What firmware and GRUB read of the ESP.
_STATE = ("grub/once", "grub/state.a", "grub/state.a.sum", "grub/state.b", "grub/state.b.sum")
_ON_ESP = ("EFI/BOOT/BOOTX64.EFI", "grub/grub.cfg", *_STATE)
Signature = Callable[[int, int], object]


class UnsoundError(Exception):
    """A filesystem that a replay of its journal does not make whole."""


@dataclass(frozen=True)
class Verdict:
    """What GRUB would boot next, by version, and everything that is wrong with the disk (empty: nothing)."""

    default: str = ""
    once: str = ""
    previous: str = ""
    faults: tuple[str, ...] = ()

    @property
    def next_boot(self) -> str:
        return self.once or self.default


@dataclass
class DiskCheck:
    """Checks disks of one host. What is dear to read is read once for each content of a partition."""

    tools: ToolsRoot
    images: TinyImages
    folder: Path
    _known: dict[object, dict[str, str]] = field(default_factory=dict)

    def check(self, disk: Path, signature: Signature | None = None) -> Verdict:
        """Return the verdict on a disk. `signature` tells contents of a byte range (start, size) apart."""
        with disk.open("rb") as device:
            gpt = ondisk.read_gpt(device)
            if gpt is None or tuple(one.label for one in gpt.partitions) != LABELS:
                return Verdict(faults=("the partition table is unreadable",))
            device.seek(-_SECTOR, os.SEEK_END)
            if device.read(8) != b"EFI PART":
                return Verdict(faults=("the copy of the partition table is lost",))
        bios_boot, esp, system, state = gpt.partitions
        try:
            choice, torn = self._read_esp(disk, bios_boot, esp)
        except AgentError as error:
            return Verdict(faults=(str(error),))
        try:
            faults = torn + self._find_faults(disk, (system, state), choice, signature)
        except UnsoundError as error:
            faults = [str(error)]
        names = [self._name(image_id) for image_id in (choice.default, choice.once, choice.previous)]
        return Verdict(*names, faults=tuple(faults))

    def _find_faults(
        self,
        disk: Path,
        filesystems: tuple[ondisk.Partition, ondisk.Partition],
        choice: boot.BootState,
        signature: Signature | None,
    ) -> list[str]:
        system, state = filesystems
        faults: list[str] = []
        for what, view in (("GRUB", self._grub_view), ("the initramfs", self._kernel_view)):
            found = self._once(disk, system, signature, what, view)
            for image_id in dict.fromkeys((choice.default, choice.once, choice.previous)):
                if image_id:
                    faults += [f"{what}: {fault}" for fault in self._judge(image_id, found, what)]
        found = self._once(disk, state, signature, "state", self._state_view)
        return faults + _judge_state(found, choice)

    def _name(self, image_id: str) -> str:
        return self.images.name_of(image_id) if image_id else ""

    def _once(
        self,
        disk: Path,
        partition: ondisk.Partition,
        signature: Signature | None,
        what: str,
        view: Callable[[Path, ondisk.Partition, Path], dict[str, str]],
    ) -> dict[str, str]:
        key = (what, signature(partition.start, partition.size)) if signature else None
        if key in self._known and key is not None:
            return self._known[key]
        work = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            found = view(disk, partition, work)
        finally:
            shutil.rmtree(work)
        if key is not None:
            self._known[key] = found
        return found

    def _read_esp(
        self, disk: Path, bios_boot: ondisk.Partition, esp: ondisk.Partition
    ) -> tuple[boot.BootState, list[str]]:
        """Return the boot choice, and what is torn of GRUB itself."""
        work = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            drive, env = f"{disk}@@{esp.start}", {"MTOOLS_SKIP_CHECK": "1"}
            for name in _ON_ESP:
                # One by one: a torn leftover beside them, which nothing reads, would end the copy of a folder.
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                self.tools.run("mcopy", "-n", "-i", drive, f"::{name}", work / name, env=env, check=False)
            return boot.read_state(work), tiny_grub.find_faults(disk, bios_boot, work, self.images.grubs)
        finally:
            shutil.rmtree(work)

    def _judge(self, image_id: str, found: dict[str, str], what: str) -> list[str]:
        """Return what keeps an image from booting."""
        try:
            wanted = self.images.versions[self._name(image_id)]
        except KeyError:
            return [f"{image_id} is no image of this host"]
        image, name = wanted.image, self._name(image_id)
        expected = {
            f"/boot/{image.kernel.digest}": image.kernel.digest,
            f"/boot/{image.initrd.digest}": image.initrd.digest,
        }
        if what != "GRUB":
            expected = {f"/layers/{layer.digest}.erofs": layer.digest for layer in image.layers}
            expected[f"/images/{image_id}/list"] = image_id
            expected[f"/images/{image_id}/list.sig"] = hashlib.sha256(wanted.list_sig).hexdigest()
        faults = [
            f"{name}: {path} is {found.get(path, 'missing')[:16]}"
            for path, digest in expected.items()
            if found.get(path) != digest
        ]
        if f"/images/{image_id}/entry.cfg" not in found:
            faults.append(f"{name}: no boot entry")
        return faults

    def _paths(self) -> list[str]:
        paths: dict[str, None] = {}
        for one in self.images.versions.values():
            folder = f"/images/{one.image.id}"
            paths |= dict.fromkeys((f"{folder}/entry.cfg", f"{folder}/list", f"{folder}/list.sig"))
            paths |= dict.fromkeys(f"/boot/{blob.digest}" for blob in (one.image.kernel, one.image.initrd))
            paths |= dict.fromkeys(f"/layers/{layer.digest}.erofs" for layer in one.image.layers)
        return list(paths)

    def _grub_view(self, disk: Path, partition: ondisk.Partition, work: Path) -> dict[str, str]:
        wanted = [path for path in self._paths() if not path.startswith("/layers")]
        return self._digests(f"{disk}?offset={partition.start}", wanted, work)

    def _kernel_view(self, disk: Path, partition: ondisk.Partition, work: Path) -> dict[str, str]:
        copy = self._replayed(disk, partition, work)
        return self._digests(str(copy), [path for path in self._paths() if not path.startswith("/boot")], work)

    def _state_view(self, disk: Path, partition: ondisk.Partition, work: Path) -> dict[str, str]:
        """Return the config that each image boots with, by its id, and under `current` the current one."""
        copy = self._replayed(disk, partition, work)
        tree = work / "tree"
        tree.mkdir()
        self.tools.run("debugfs", "-R", f"rdump /config /host {tree}", copy)
        links = {link.name: link for link in (tree / "config/by-image").glob("*")} | {
            "current": tree / "config/current"
        }
        return {
            name: (link / "tiny.conf").read_text() if (link / "tiny.conf").is_file() else "missing"
            for name, link in links.items()
        }

    def _replayed(self, disk: Path, partition: ondisk.Partition, work: Path) -> Path:
        """Return a copy of an ext4 with its journal replayed, as a mount does it. Raises `UnsoundError`."""
        copy = work / "partition"
        copy_range(disk, copy, partition.start, partition.size)
        done = self.tools.run("e2fsck", "-fp", copy, check=False)
        if done.returncode > 1:
            raise UnsoundError(
                f"{partition.label} is not sound after a replay of its journal: {done.stdout}{done.stderr}"
            )
        return copy

    def _digests(self, filesystem: str, paths: list[str], work: Path) -> dict[str, str]:
        script = work / "script"
        script.write_text("".join(f"dump {path} {work}/{number}\n" for number, path in enumerate(paths)))
        # -n: GRUB looks at no checksum of the metadata; in a replayed copy they were checked before.
        self.tools.run("debugfs", "-n", "-f", script, filesystem, check=False)
        found = {}
        for number, path in enumerate(paths):
            out = work / str(number)
            if out.is_file():
                with out.open("rb") as file:
                    found[path] = hashlib.file_digest(file, "sha256").hexdigest()
                out.unlink()
        return found


def _judge_state(found: dict[str, str], choice: boot.BootState) -> list[str]:
    """The config of what boots must be whole: one line, 500 times."""
    faults = []
    for name in ("current", choice.default, choice.once):
        if not name:
            continue
        lines = found.get(name, "missing").splitlines()
        if len(lines) != 500 or len(set(lines)) != 1:
            faults.append(f"state: the config of {name[:16]} is {lines[:1]}, {len(lines)} lines")
    return faults


def read_partitions(disk: Path) -> tuple[ondisk.Partition, ...]:
    """Return the partitions of a disk that has a table."""
    with disk.open("rb") as device:
        gpt = ondisk.read_gpt(device)
    assert gpt is not None
    return gpt.partitions


def copy_range(source: Path, target: Path, start: int, size: int) -> None:
    """Copy a part of a sparse file as a sparse file."""
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.truncate(size)
        at, end = start, start + size
        while at < end:
            try:
                data = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            at = min(os.lseek(reader.fileno(), data, os.SEEK_HOLE), end)
            while data < at:
                chunk = os.pread(reader.fileno(), min(1 << 20, at - data), data)
                os.pwrite(writer.fileno(), chunk, data - start)
                data += len(chunk)
