"""Make versions for tests: a changed project, and images that are broken on purpose but signed."""

import shutil
from collections.abc import Callable
from pathlib import Path

from bake.image import sign
from bake.pack import pack_layer, sha256_file
from qtrade.manifest import Image, ImageLayer
from qtrade.manifest.image import ImageBlob, image_id
from qtrade.settings import Settings
from qtrade.store import LocalStore
from qtrade.toolsroot import open_tools
from qtrade.trust.keyring import load_keyring


def changed_project(settings: Settings, folder: Path, change: Callable[[Path], None]) -> Path:
    """Copy what a bake reads of the project, change it, and return the copy."""
    target = folder / "project"
    for name in ("manifests", "ansible", "packer", "tests/standins", "flash/agent"):
        shutil.copytree(
            settings.project / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    change(target)
    return target


def publish_variant(
    settings: Settings, version: str, *, kernel: ImageBlob | None = None, top: ImageLayer | None = None
) -> Image:
    """Publish a signed variant of 0.1.0 with another kernel, or with one more layer on top."""
    store = LocalStore(settings.store)
    image = Image.model_validate_json(store.read("lab", "0.1.0").image_text)
    layers = (*image.layers, top) if top else image.layers
    draft = image.model_copy(update={"version": version, "layers": layers, "kernel": kernel or image.kernel})
    made = draft.model_copy(update={"id": image_id(draft.list_text())})
    store.publish(made, sign(made, load_keyring(settings).signer("build")))
    return made


def other_kernel(settings: Settings, folder: Path) -> ImageBlob:
    """Return 0.1.0's kernel with other bytes behind its end: it boots as before, under another digest."""
    store = LocalStore(settings.store)
    image = Image.model_validate_json(store.read("lab", "0.1.0").image_text)
    path = folder / "kernel"
    path.write_bytes(store.open_blob(image.kernel.digest).read_bytes() + b"\0" * 512)
    digest, size = sha256_file(path), path.stat().st_size
    store.add_blob(path, digest)
    return ImageBlob(digest=digest, size=size)


def extra_layer(settings: Settings, folder: Path, files: dict[str, str]) -> ImageLayer:
    """Return a layer that holds `files` (path to text; all executable)."""
    store = LocalStore(settings.store)
    tree = folder / "tree"
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    packed = pack_layer(open_tools(settings), tree, folder / "extra.erofs", name="extra", epoch=1763856000)
    store.add_blob(packed.path, packed.digest)
    return ImageLayer(
        role="extra", key=packed.digest, digest=packed.digest, size=packed.size, verity=packed.verity, needs=("base",)
    )
