"""The block map of a disk image, in bmaptool's format 2.0 (https://github.com/yoctoproject/bmaptool): which blocks must be written."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def hash_ranges(disk: Path, mapped: Iterable[range], block_bytes: int) -> tuple[tuple[range, str], ...]:
    """Return each range of blocks of `disk` with the SHA-256 of its bytes."""
    found = []
    with disk.open("rb") as file:
        for blocks in mapped:
            file.seek(blocks.start * block_bytes)
            left, total = len(blocks) * block_bytes, hashlib.sha256()
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                total.update(chunk)
                left -= len(chunk)
            found.append((blocks, total.hexdigest()))
    return tuple(found)


def render_bmap(size_bytes: int, block_bytes: int, ranges: Iterable[tuple[range, str]]) -> str:
    """Return the XML text. `ranges`: blocks and the SHA-256 of their bytes. The map's own checksum is taken with zeros in its place."""
    rows = []
    count = 0
    for blocks, digest in ranges:
        count += len(blocks)
        last = f"-{blocks[-1]}" if len(blocks) > 1 else ""
        rows.append(f'        <Range chksum="{digest}"> {blocks.start}{last} </Range>\n')
    empty = "0" * 64
    text = (
        '<?xml version="1.0" ?>\n'
        '<bmap version="2.0">\n'
        f"    <ImageSize> {size_bytes} </ImageSize>\n"
        f"    <BlockSize> {block_bytes} </BlockSize>\n"
        f"    <BlocksCount> {-(-size_bytes // block_bytes)} </BlocksCount>\n"
        f"    <MappedBlocksCount> {count} </MappedBlocksCount>\n"
        "    <ChecksumType> sha256 </ChecksumType>\n"
        f"    <BmapFileChecksum> {empty} </BmapFileChecksum>\n"
        "    <BlockMap>\n"
        f"{''.join(rows)}"
        "    </BlockMap>\n"
        "</bmap>\n"
    )
    return text.replace(empty, hashlib.sha256(text.encode()).hexdigest(), 1)
