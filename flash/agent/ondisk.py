"""What stands on a disk, read from its bytes: GPT, filesystem UUIDs, and marks of RAID, LVM, ZFS and the like.

No tool of the host is asked, since tools of a rescue system differ and may assemble what they find.
"""

import struct
import zlib
from typing import Any, BinaryIO, List, NamedTuple, Optional, Tuple

SECTOR = 512
MIB = 1024 * 1024
# Signature, revision, size, checksum, reserved, own LBA, other LBA, first, last, disk, table LBA, count, entry size, table checksum.
GPT_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MD_MAGIC = b"\xfc\x4e\x2b\xa9"
_ZFS_MAGIC = ((0x00BAB10C).to_bytes(8, "little"), (0x00BAB10C).to_bytes(8, "big"))
_IMSM_MAGIC = b"Intel Raid ISM Cfg Sig. "
_DDF_MAGIC = b"\xde\x11\xde\x11"
_BCACHE_MAGIC = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")


class Partition(NamedTuple):
    """An entry of a GPT; `start` and `size` in bytes."""

    number: int
    label: str
    type_uuid: str
    uuid: str
    start: int
    size: int


class Gpt(NamedTuple):
    """A valid GPT; `is_torn` says that only the copy at the end of the disk is."""

    disk_uuid: str
    partitions: Tuple[Partition, ...]
    is_torn: bool = False


def read_gpt(disk: BinaryIO, sector: int = SECTOR, size: int = 0) -> Optional[Gpt]:
    """Return the primary GPT, else, on a disk of `size` bytes, its copy; None when there is none or no checksums fit."""
    fields, found = _read_header(disk, sector, sector), None
    if fields is None:
        found = find_backup(disk, size, sector)
        fields = found[1] if found else None
    if fields is None:
        return None
    disk_uuid, table, count, entry_size = fields[9], fields[10], fields[11], fields[12]
    entries = read_at(disk, table * sector, count * entry_size)
    partitions = []
    for index in range(count):
        kind, own, first, last, _, name = _ENTRY.unpack_from(entries, index * entry_size)
        if kind != bytes(16):
            label = name.decode("utf-16-le", "replace").rstrip("\0")
            size = (last - first + 1) * sector
            partitions.append(Partition(index + 1, label, _guid(kind), _guid(own), first * sector, size))
    return Gpt(_guid(disk_uuid), tuple(partitions), is_torn=found is not None)


def find_backup(disk: BinaryIO, size: int, sector: int) -> Optional[Tuple[int, Tuple[Any, ...]]]:
    """Return where the copy of the GPT lies, in bytes, and its header; None when there is none that is whole.

    It is looked for in the last sector, and where the disk ended when the table was made, as the protective MBR tells.
    """
    mbr = read_at(disk, 0, 512)
    old = struct.unpack_from("<I", mbr, 458)[0] * sector if len(mbr) == 512 and mbr[450] == 0xEE else 0
    for place in (size - sector, old):
        header = _read_header(disk, place, sector) if sector < place < size else None
        if header is not None and header[5] == place // sector:
            return place, header
    return None


def _read_header(disk: BinaryIO, place: int, sector: int) -> Optional[Tuple[Any, ...]]:
    """Return the fields of the GPT header at `place`, in bytes, if its checksum and that of its table fit."""
    header = read_at(disk, place, GPT_HEADER.size)
    if len(header) < GPT_HEADER.size or not header.startswith(b"EFI PART"):
        return None
    fields = GPT_HEADER.unpack(header)
    zeroed = header[:16] + b"\0\0\0\0" + header[20:]
    is_odd = fields[2] != GPT_HEADER.size or fields[12] < _ENTRY.size or fields[11] > 1024
    if is_odd or zlib.crc32(zeroed) != fields[3]:
        return None
    entries = read_at(disk, fields[10] * sector, fields[11] * fields[12])
    return fields if zlib.crc32(entries) == fields[13] else None


def read_fs_uuid(device: BinaryIO, offset: int = 0) -> Optional[str]:  # noqa: PLR0911 - one return per filesystem
    """Return the UUID of a filesystem, or a swap area, as `blkid` writes it; None when none is known."""
    head = read_at(device, offset, 4096)
    if len(head) < 4096:
        return None
    if head[0x438:0x43A] == b"\x53\xef":
        return _uuid(head[0x468:0x478])
    if head.startswith(b"XFSB"):
        return _uuid(head[32:48])
    if head[0x400:0x404] == b"\x10\x20\xf5\xf2":
        return _uuid(head[0x46C:0x47C])
    if head[4086:4096] == b"SWAPSPACE2":
        return _uuid(head[0x40C:0x41C])
    for start, magic in ((67, 82), (39, 54)):
        if head[magic : magic + 3] == b"FAT":
            serial = int.from_bytes(head[start : start + 4], "little")
            return f"{serial >> 16:04X}-{serial & 0xFFFF:04X}"
    btrfs = read_at(device, offset + 65536, 128)
    if btrfs[64:72] == b"_BHRfS_M":
        return _uuid(btrfs[32:48])
    return None


def find_member(device: BinaryIO, offset: int, size: int) -> Optional[str]:  # noqa: PLR0911 - one return per kind
    """Return what pool or array this disk or partition is part of, None for none.

    `md`, `lvm`, `zfs`, `bcache`, `luks`, and the firmware's arrays `imsm` (Intel) and `ddf`.
    """
    head = read_at(device, offset, 262144)
    if any(head[index * 512 : index * 512 + 8] == b"LABELONE" for index in range(4)):
        return "lvm"
    if head.startswith(b"LUKS\xba\xbe"):
        return "luks"
    if head[4096 + 24 : 4096 + 40] == _BCACHE_MAGIC:
        return "bcache"
    # md metadata 1.1 and 1.2 at the start, 1.0 and 0.90 near the end.
    ends = ((size - 8192) & ~4095, (size & ~65535) - 65536)
    if head[:4] == _MD_MAGIC or head[4096:4100] == _MD_MAGIC:
        return "md"
    if any(end > 0 and read_at(device, offset + end, 4) in (_MD_MAGIC, _MD_MAGIC[::-1]) for end in ends):
        return "md"
    uberblocks = range(131072, len(head), 1024)
    if any(head[index : index + 8] in _ZFS_MAGIC for index in uberblocks):
        return "zfs"
    # The signatures of the firmware's arrays stand in the last sector but one, and in the last.
    tail = read_at(device, offset + max(size - 2 * SECTOR, 0), 2 * SECTOR)
    if tail.startswith(_IMSM_MAGIC):
        return "imsm"
    return "ddf" if tail[SECTOR : SECTOR + 4] == _DDF_MAGIC else None


def scan(disk: BinaryIO, size: int, sector: int = SECTOR) -> Tuple[Optional[Gpt], List[str], List[str]]:
    """Return the GPT, the filesystem UUIDs and the memberships of a disk and its partitions."""
    gpt = read_gpt(disk, sector, size)
    places = [(0, size)] + [(one.start, one.size) for one in (gpt.partitions if gpt else _read_mbr(disk, sector))]
    uuids = [found for found in (read_fs_uuid(disk, start) for start, _ in places) if found]
    members = [found for found in (find_member(disk, start, length) for start, length in places) if found]
    return gpt, uuids, members


def read_at(device: BinaryIO, offset: int, size: int) -> bytes:
    """Read `size` bytes at `offset`; fewer when the device ends."""
    device.seek(offset)
    return device.read(size)


def _read_mbr(disk: BinaryIO, sector: int) -> List[Partition]:
    table = read_at(disk, 0, 512)
    if table[510:] != b"\x55\xaa":
        return []
    found = []
    for number in range(4):
        kind, first, count = struct.unpack_from("<4xB3xII", table, 446 + 16 * number)
        if kind and count:
            found.append(Partition(number + 1, "", f"{kind:02x}", "", first * sector, count * sector))
    return found


def _guid(raw: bytes) -> str:
    """Return the GUID of a partition table, whose first three fields are little-endian."""
    return _uuid(raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:])


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
