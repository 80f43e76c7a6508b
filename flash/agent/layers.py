"""Looks into an image that is not running: its users and its declared config inputs, straight from its layers."""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, List, Tuple

from .errors import AgentError
from .imagelist import ImageList
from .names import Names, parse_names
from .programs import run
from .units import Inputs, parse_inputs


def read_image(system: Path, image: ImageList) -> Tuple[Names, Inputs]:
    """Return the users and inputs of an image whose layers are on the system partition. Raises `AgentError`."""
    texts = {"passwd": "", "group": ""}
    inputs: List[str] = []
    for layer in image.layers:
        with _mounted(system / layer.path) as root:
            for name in texts:
                if (root / "etc" / name).is_file():
                    texts[name] = (root / "etc" / name).read_text()
            inputs += [
                path.read_text() for path in sorted((root / "usr/lib/qtrade/inputs.d").glob("*.json")) if path.is_file()
            ]
    return parse_names(texts["passwd"], texts["group"]), parse_inputs(inputs)


@contextlib.contextmanager
def _mounted(layer: Path) -> Iterator[Path]:
    target = Path(tempfile.mkdtemp(prefix="qtrade-layer-", dir="/run"))
    _mount(layer, target)
    try:
        yield target
    finally:
        run("umount", str(target))
        target.rmdir()


def _mount(layer: Path, target: Path) -> None:
    with_loop = ("mount", "-o", "ro,loop", "-t", "erofs", str(layer), str(target))
    if not shutil.which("kmount"):
        run(*with_loop)
        return
    try:
        # In the installer klibc's mount stands beside: it needs no loop device for a file.
        run("kmount", "-o", "ro", "-t", "erofs", str(layer), str(target))
    except AgentError:
        # The kernel of a rescue system may be too old for that.
        run(*with_loop)
