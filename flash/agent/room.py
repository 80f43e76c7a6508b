"""How much room a filesystem has."""

import os
from pathlib import Path

# ext4 keeps a fiftieth back for its own metadata, and no more than so many blocks: not even root gets them
# (Linux, fs/ext4/super.c: ext4_set_resv_clusters). They count as free in statvfs(3).
_KEPT_SHARE, _KEPT_BLOCKS = 50, 4096


def root_can_write(folder: Path) -> int:
    """Return the bytes that root can still write to the ext4 of a folder."""
    status = os.statvfs(folder)
    kept = min(status.f_blocks // _KEPT_SHARE, _KEPT_BLOCKS)
    return max(status.f_bfree - kept, 0) * status.f_frsize
