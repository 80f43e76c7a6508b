"""Write a file so that it is there whole or not at all."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` (mode 644) by renaming a complete file; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as sink:
        sink.write(content)
        sink.flush()
        os.fsync(sink.fileno())
    fresh = Path(sink.name)
    fresh.chmod(0o644)
    fresh.replace(path)
