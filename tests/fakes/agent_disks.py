"""A fake machine: a sysfs tree and disks that are files."""

import struct
import uuid
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from flash.agent import disks, ondisk

SIZE = 8 * ondisk.MIB
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


def write_gpt(path, *labels, start_mib=1):
    """Write a primary GPT with one partition of 1 MiB per label."""
    entries = b""
    for index, label in enumerate(labels):
        first = (start_mib + index) * 2048
        name = label.encode("utf-16-le").ljust(72, b"\0")
        ids = uuid.UUID(LINUX).bytes_le + uuid.UUID(int=index + 1).bytes_le
        entries += ids + struct.pack("<QQQ", first, first + 2047, 0) + name
    entries = entries.ljust(128 * 128, b"\0")
    fields = [b"EFI PART", b"\0\0\1\0", 92, 0, 0, 1, SIZE // 512 - 1, 34, SIZE // 512 - 34]
    fields += [uuid.UUID(int=99).bytes_le, 2, 128, 128, zlib.crc32(entries)]
    header = struct.pack("<8s4sIIIQQQQ16sQIII", *fields)
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    poke(path, 512, header)
    poke(path, 1024, entries)


def poke(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def write_ext4(path, offset, number):
    poke(path, offset + 0x438, b"\x53\xef")
    poke(path, offset + 0x468, uuid.UUID(int=number).bytes)


@dataclass
class Machine:
    """A fake machine."""

    root: Path
    read_only: list[str] = field(default_factory=list)

    def add(self, name, *, serial="", wwid="", pci="0000:00:04.0", size=SIZE, partitions=(), holders=()):
        device = self.root / f"sys/devices/pci0000:00/{pci}/block/{name}"
        for folder in (
            device / "holders",
            device / "device",
            device / "queue",
            self.root / "sys/block",
            self.root / "dev",
        ):
            folder.mkdir(parents=True, exist_ok=True)
        (self.root / "sys/block" / name).symlink_to(device)
        (device / "size").write_text(f"{size // 512}\n")
        (device / "queue/logical_block_size").write_text("512\n")
        if serial:
            (device / "serial").write_text(f"{serial}  \n")
        if wwid:
            (device / "wwid").write_text(f"{wwid}\n")
        for number, partition in enumerate(partitions, 1):
            (device / partition / "holders").mkdir(parents=True)
            (device / partition / "partition").write_text(f"{number}\n")
        for holder in holders:
            (device / "holders" / holder).mkdir()
        path = self.root / "dev" / name
        with path.open("wb") as file:
            file.truncate(SIZE)
        return path

    def discover(self):
        return disks.discover(self.root / "sys", self.root / "dev")
