"""The image as it was mounted: its layers below the upper directory, read as the overlay shows them, but without what was changed since."""

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Dict, List, Optional, Sequence, Tuple, Union

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_MOST_LINKS = 16


class Lower:
    """Layers, the topmost first. Paths are relative to the root, such as `etc/passwd`."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._layers = tuple(map(str, layers))
        self._hiding: Dict[Tuple[str, str], bool] = {}

    @classmethod
    def mounted(cls, folder: Path) -> "Lower":
        """Return the layers that the initramfs has mounted on `folder/NN`, the highest number on top."""
        return cls(sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), reverse=True))

    def find(self, path: str) -> Optional[Path]:
        """Return where the image has `path` (the last part is not followed), None when it has none."""
        parent = path.rpartition("/")[0]
        for layer in self._layers:
            place = f"{layer}/{path}"
            status = _status(place)
            if status is not None:
                return None if is_whiteout(status) else Path(place)
            if self._hides(layer, parent):
                return None
        return None

    def names(self, path: str) -> List[str]:
        """Return the names in a folder of the image."""
        found: Dict[str, bool] = {}
        for layer in self._layers:
            try:
                entries = list(os.scandir(f"{layer}/{path}"))
            except OSError:
                entries = []
            for entry in entries:
                # Only devices can be deletions, and few are.
                is_there = entry.is_file() or entry.is_dir() or not is_whiteout(entry.stat(follow_symlinks=False))
                found.setdefault(entry.name, is_there)
            if self._hides(layer, path):
                break
        return sorted(name for name, is_there in found.items() if is_there)

    def _hides(self, layer: str, folder: str) -> bool:
        """Say whether a layer hides what layers below it have in a folder: it was deleted there, replaced, or made anew."""
        if not folder:
            return False
        known = self._hiding.get((layer, folder))
        if known is None:
            status = _status(f"{layer}/{folder}")
            if status is not None and (not stat.S_ISDIR(status.st_mode) or is_opaque(f"{layer}/{folder}")):
                known = True
            else:
                known = self._hides(layer, folder.rpartition("/")[0])
            self._hiding[layer, folder] = known
        return known

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


def is_opaque(folder: Union[str, Path]) -> bool:
    """Say whether a folder of a layer hides those below it."""
    for name in _OPAQUE:
        try:
            if os.getxattr(folder, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _status(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except OSError:
        return None
