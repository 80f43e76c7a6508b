"""Images on the system partition: writes one, lists them, and collects those that nothing may boot any more."""

import json
from pathlib import Path
from typing import Dict, Iterable, List, Set

from . import durable
from .dsse import canonical
from .errors import AgentError
from .imagelist import is_digest, parse_list
from .job import Image


def write_image(system: Path, image: Image) -> None:
    """Write the folder of an image, without its boot entry: GRUB does not see it yet."""
    final = system / "images" / image.image_id
    fresh = system / "images" / f".new-{image.image_id}"
    fresh.parent.mkdir(exist_ok=True)
    if fresh.exists():
        durable.remove_all([fresh])
    if is_written(system, image):
        return
    if final.exists():
        # It may be what boots now, so its boot entry stays and each file is replaced whole.
        for name, data in _files(image).items():
            durable.write_file(final / name, data)
        return
    fresh.mkdir()
    for name, data in _files(image).items():
        durable.write_file(fresh / name, data)
    fresh.rename(final)
    durable.sync_folder(final.parent)


def is_written(system: Path, image: Image) -> bool:
    """Say whether the folder of the image is there as it must be, its boot entry aside."""
    folder = system / "images" / image.image_id
    try:
        return all((folder / name).read_bytes() == data for name, data in _files(image).items())
    except OSError:
        return False


def write_entry(system: Path, image_id: str, entry: str) -> None:
    """Write the boot entry: what makes GRUB see the image. Everything that it names must be flushed before."""
    durable.write_file(system / "images" / image_id / "entry.cfg", entry.encode())


def installed(system: Path) -> List[str]:
    """Return the ids of the images that have a boot entry."""
    folder = system / "images"
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if is_digest(path.name) and (path / "entry.cfg").is_file())


def listed(system: Path) -> List[str]:
    """Return the ids of all images that lie there, whether they have a boot entry or not."""
    folder = system / "images"
    return sorted(path.name for path in folder.iterdir() if is_digest(path.name)) if folder.is_dir() else []


def read_installed(system: Path, image_id: str) -> Image:
    """Return an image from the disk. Raises `AgentError` when it is not whole."""
    folder = system / "images" / image_id
    try:
        list_text, signature = (folder / "list").read_text(), (folder / "list.sig").read_bytes()
        image_json = (folder / "image.json").read_text()
        promotion = (
            json.loads((folder / "promotion.json").read_text()) if (folder / "promotion.json").exists() else None
        )
    except (OSError, ValueError) as error:
        raise AgentError("image-missing", f"image {image_id} cannot be read: {error}", "stage it again") from error
    contents = parse_list(list_text)
    if contents.image_id != image_id:
        raise AgentError("image-altered", f"the list of image {image_id} was altered", "stage it again")
    return Image(image_id, read_version(system, image_id), list_text, signature, image_json, contents, promotion)


def read_version(system: Path, image_id: str) -> str:
    """Return the version of an installed image, empty when its image.json does not say."""
    try:
        value = json.loads((system / "images" / image_id / "image.json").read_text())
        return str(value.get("version", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def require_installed(system: Path, image_id: str) -> None:
    """Raise `AgentError` unless the image has a boot entry."""
    if image_id not in installed(system):
        here = ", ".join(one[:16] for one in installed(system)) or "none"
        raise AgentError("image-missing", f"image {image_id} is not installed (installed are {here})", "stage it first")


def collect(system: Path, keep: Set[str], wanted: Iterable[str] = ()) -> List[str]:
    """Remove all images but `keep`, and the blobs that neither they nor `wanted` (sha256) need. Returns the ids that went.

    Boot entries go first, so that GRUB never sees an image whose blobs are gone.
    """
    folder = system / "images"
    gone = [path for path in folder.iterdir() if path.name not in keep] if folder.is_dir() else []
    for path in gone:
        (path / "entry.cfg").unlink(missing_ok=True)
    if gone:
        durable.flush_filesystem(system)
    durable.remove_all(gone)
    needed = set(wanted)
    for image_id in keep:
        listing = folder / image_id / "list"
        if listing.is_file():
            needed |= {blob.sha256 for blob in parse_list(listing.read_text()).blobs}
    for place in ("layers", "boot"):
        if (system / place).is_dir():
            durable.remove_all([path for path in (system / place).iterdir() if not _is_needed(path, needed)])
    return sorted(path.name for path in gone)


def _files(image: Image) -> Dict[str, bytes]:
    files = {"list": image.list_text.encode(), "list.sig": image.signature, "image.json": image.image_json.encode()}
    if image.promotion is not None:
        files["promotion.json"] = canonical(image.promotion)
    return files


def _is_needed(path: Path, needed: Set[str]) -> bool:
    return path.name.lstrip(".").partition(".")[0] in needed
