"""A fake machine: a sysfs tree, and disks that are sparse files."""

import hashlib
import os
import struct
import uuid
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from flash.agent import disks, ondisk
from flash.agent.host import Host

SIZE = 8 * ondisk.MIB
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


def poke(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def write_gpt(path, *labels, start_mib=1, size=None, kinds=(), sector=512, backup=True):
    """Write both copies of a GPT with one partition of 1 MiB per label; `size` is where the disk seems to end."""
    size = size or path.stat().st_size
    per_mib = ondisk.MIB // sector
    entries = b""
    for index, label in enumerate(labels):
        first = (start_mib + index) * per_mib
        name = label.encode("utf-16-le").ljust(72, b"\0")
        kind = kinds[index] if index < len(kinds) else LINUX
        ids = uuid.UUID(kind).bytes_le + uuid.UUID(int=index + 1).bytes_le
        entries += ids + struct.pack("<QQQ", first, first + per_mib - 1, 0) + name
    entries = entries.ljust(128 * 128, b"\0")
    last, table = size // sector - 1, 128 * 128 // sector
    copies = [(1, last, 2), (last, 1, last - table)] if backup else [(1, last, 2)]
    for own, other, where in copies:
        fields = [b"EFI PART", b"\0\0\1\0", 92, 0, 0, own, other, 2 + table, last - table - 1]
        fields += [uuid.UUID(int=99).bytes_le, where, 128, 128, zlib.crc32(entries)]
        header = ondisk.GPT_HEADER.pack(*fields)
        poke(path, own * sector, header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:])
        poke(path, where * sector, entries)
    poke(path, 446, struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, last) + bytes(48) + b"\x55\xaa")


def write_ext4(path, offset, number):
    poke(path, offset + 0x438, b"\x53\xef")
    poke(path, offset + 0x468, uuid.UUID(int=number).bytes)


def digest_disk(path):
    """Return the SHA-256 of where a sparse file holds data, and of that data."""
    total = hashlib.sha256(str(path.stat().st_size).encode())
    device = os.open(path, os.O_RDONLY)
    try:
        at, size = 0, path.stat().st_size
        while at < size:
            try:
                start = os.lseek(device, at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(device, start, os.SEEK_HOLE)
            data = os.pread(device, at - start, start)
            # Holes and zeros are the same to who reads the disk.
            if data.strip(b"\0"):
                total.update(f"{start}:".encode() + data.rstrip(b"\0"))
    finally:
        os.close(device)
    return total.hexdigest()


@dataclass
class Machine:
    """A fake machine."""

    root: Path
    read_only: list[str] = field(default_factory=list)

    def add(  # every argument is a fact of the disk
        self, name, *, serial="", wwid="", pci="0000:00:04.0", size=SIZE, partitions=(), holders=(), sector=512
    ):
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
        (device / "queue/logical_block_size").write_text(f"{sector}\n")
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
            file.truncate(size)
        return path

    def discover(self):
        return disks.discover(self.root / "sys", self.root / "dev")

    @property
    def host(self):
        """Return the host as the agent sees it; `proc` says that nothing is mounted until a test writes there."""
        proc = self.root / "proc"
        proc.mkdir(exist_ok=True)
        for name, text in (("mounts", ""), ("swaps", "Filename Type Size Used Priority\n")):
            if not (proc / name).exists():
                (proc / name).write_text(text)
        return Host(run=self.root / "run", proc=proc, sys=self.root / "sys", dev=self.root / "dev")
