"""The image as it was mounted: its layers below the upper directory, read as the overlay shows them, but without what was changed since."""

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Dict, List, Optional, Sequence

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_MOST_LINKS = 16


class Lower:
    """Layers, the topmost first. Paths are relative to the root, such as `etc/passwd`."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._layers = tuple(layers)

    @classmethod
    def mounted(cls, folder: Path) -> "Lower":
        """Return the layers that the initramfs has mounted on `folder/NN`, the highest number on top."""
        return cls(sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), reverse=True))

    def find(self, path: str) -> Optional[Path]:
        """Return where the image has `path` (the last part is not followed), None when it has none."""
        for layer in self._layers:
            place = layer
            for part in PurePosixPath(path).parts:
                hides = place != layer and is_opaque(place)
                place = place / part
                status = _status(place)
                if status is None:
                    if hides:
                        return None
                    break
                if is_whiteout(status):
                    return None
            else:
                return place
        return None

    def names(self, path: str) -> List[str]:
        """Return the names in a folder of the image."""
        found: Dict[str, bool] = {}
        for layer in self._layers:
            folder = layer / path
            if not folder.is_dir() or folder.is_symlink():
                continue
            for entry in os.scandir(folder):
                found.setdefault(entry.name, not is_whiteout(entry.stat(follow_symlinks=False)))
            if is_opaque(folder):
                break
        return sorted(name for name, is_there in found.items() if is_there)

    def read(self, path: str) -> Optional[str]:
        """Return the text of a file of the image, following symbolic links within it; None when it has none."""
        for _ in range(_MOST_LINKS):
            place = self.find(path)
            if place is None:
                return None
            if not place.is_symlink():
                return place.read_text(errors="replace") if place.is_file() else None
            # An absolute target takes the place of all that stands before it.
            path = os.path.normpath(PurePosixPath("/", path).parent / place.readlink()).lstrip("/")
        return None

    def link(self, path: str) -> Optional[str]:
        """Return where a symbolic link of the image leads, None when there is none."""
        place = self.find(path)
        return str(place.readlink()) if place is not None and place.is_symlink() else None


def is_whiteout(status: os.stat_result) -> bool:
    """Say whether an entry is how overlayfs writes a deletion."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: Path) -> bool:
    """Say whether a folder of a layer hides those below it."""
    for name in _OPAQUE:
        try:
            if os.getxattr(folder, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _status(path: Path) -> Optional[os.stat_result]:
    try:
        return path.lstat()
    except OSError:
        return None
