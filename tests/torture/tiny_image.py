"""Images for the tiny guest: the lab image's kernel, initrd and installer, and one small layer made of the installer's own files."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from bake.image import sign
from bake.pack import pack_layer, sha256_file
from qtrade.manifest import Image, ImageLayer
from qtrade.manifest.image import ImageBlob, image_id
from qtrade.process import run
from qtrade.settings import Settings
from qtrade.store import LocalStore
from qtrade.toolsroot import ToolsRoot, open_tools
from qtrade.trust.images import VerifiedImage, load_image
from qtrade.trust.keyring import load_keyring
from tests.torture import tiny_grub
from tests.torture.tiny_grub import Grub

NAME = "tiny"
HOST = "tiny-1"
_INIT = Path(__file__).with_name("tiny_init")
_LEFT_OUT = ("usr/lib/udev", "usr/lib/x86_64-linux-gnu/systemd")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# The installer has no byte code, and an emulated guest compiles for seconds at each start of Python.
_COMPILE = ("/usr/bin/python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/usr/lib")
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_FOLDERS = ("dev", "proc", "sys", "run", "tmp", "root", "var/lib/dpkg", "usr/lib/qtrade/inputs.d")
_FILES = {
    "etc/hostname": f"{HOST}\n",
    "etc/machine-id": "",
    "var/lib/dpkg/status": "",
    "usr/lib/qtrade/inputs.d/tiny.json": json.dumps({"files": [{"path": "tiny.conf", "units": []}]}),
}
_MARK_BYTES = 2 << 20


@dataclass(frozen=True)
class TinyImages:
    """Signed versions that differ in a layer of 2 MiB; every second one has another kernel and another GRUB in its installer too."""

    versions: dict[str, VerifiedImage]
    grubs: tuple[Grub, ...]

    def name_of(self, image_id: str) -> str:
        """Return the version with this id. Raises `KeyError`."""
        return next(name for name, one in self.versions.items() if one.image.id == image_id)


def make_images(settings: Settings, folder: Path, names: str, *, broken: str = "") -> TinyImages:
    """Publish a version for each letter of `names`, made of the lab image 0.1.0, which must be in the store.

    In those of `broken`, init exits at once.
    """
    store = LocalStore(settings.store)
    lab = Image.model_validate_json(store.read("lab", "0.1.0").image_text)
    root = _pack(settings, _make_root(settings, store.open_blob(lab.installer.digest), lab, folder), "root", lab.epoch)
    installers, grubs = _make_installers(settings, store, lab.installer, folder)
    keyring = load_keyring(settings)
    versions = {}
    for number, name in enumerate(names):
        tree = folder / f"mark-{name}"
        (tree / "usr/share").mkdir(parents=True)
        (tree / "usr/share/mark").write_bytes(random.Random(name).randbytes(_MARK_BYTES))
        if name in broken:
            _write_init(tree, b"#!/bin/sh\nexit 1\n")
        kernel = _pad(store, lab.kernel, folder, 512 * number) if number % 2 else lab.kernel
        layers = (root, _pack(settings, tree, "mark", lab.epoch))
        changes = {"name": NAME, "version": name, "layers": layers, "inputs": {}, "components": ()}
        draft = lab.model_copy(update={**changes, "kernel": kernel, "installer": installers[number % 2]})
        made = draft.model_copy(update={"id": image_id(draft.list_text())})
        store.publish(made, sign(made, keyring.signer("build")))
        versions[name] = load_image(store, NAME, name, keyring.trust.builders())
    return TinyImages(versions, grubs)


def _make_root(settings: Settings, installer: Path, lab: Image, folder: Path) -> Path:
    everything, tree = folder / "installer", folder / "root"
    everything.mkdir()
    _unpack(open_tools(settings), installer, everything)
    for name in (*_LEFT_OUT, f"usr/lib/modules/{lab.kernel_release}/kernel/drivers/net/ethernet"):
        shutil.rmtree(everything / name)
    tree.mkdir()
    for name in ("usr", "etc"):
        (everything / name).rename(tree / name)
    shutil.rmtree(everything)
    for name, target in _LINKS.items():
        (tree / name).symlink_to(target)
    for name in _FOLDERS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name, text in _FILES.items():
        (tree / name).write_text(text)
    _write_init(tree, _INIT.read_bytes())
    run(["chroot", tree, *_COMPILE], timeout_s=300)
    return tree


def _write_init(tree: Path, content: bytes) -> None:
    init = tree / "usr/sbin/init"
    init.parent.mkdir(parents=True, exist_ok=True)
    init.unlink(missing_ok=True)
    init.write_bytes(content)
    init.chmod(0o755)


def _make_installers(
    settings: Settings, store: LocalStore, own: ImageBlob, folder: Path
) -> tuple[tuple[ImageBlob, ImageBlob], tuple[Grub, Grub]]:
    """Return the lab's installer and one with another GRUB, and the GRUB of each. The root was made of the installer before."""
    tools, tree = open_tools(settings), folder / "other"
    mine = tiny_grub.read_grub(folder / "root" / tiny_grub.WHERE)
    other = tiny_grub.make_other(tools, mine, tree / tiny_grub.WHERE)
    path = tiny_grub.add_to_installer(tools, store.open_blob(own.digest), tree, folder / "installer-other")
    return (own, _add(store, path)), (mine, other)


def _add(store: LocalStore, path: Path) -> ImageBlob:
    digest, size = sha256_file(path), path.stat().st_size
    store.add_blob(path, digest)
    return ImageBlob(digest=digest, size=size)


def _unpack(tools: ToolsRoot, initrd: Path, target: Path) -> None:
    """Unpack what mkinitramfs made: a plain archive, then one under zstd."""
    data = initrd.read_bytes()
    end = data.index(b"TRAILER!!!")
    packed, plain = target.with_suffix(".zst"), target.with_suffix(".cpio")
    packed.write_bytes(data[data.index(_ZSTD_MAGIC, end) :])
    tools.run("zstd", "-q", "-d", packed, "-o", plain)
    for archive in (data[: end + 512], plain.read_bytes()):
        tools.run("cpio", "--quiet", "-idm", stdin=archive, cwd=target)
    packed.unlink()
    plain.unlink()


def _pack(settings: Settings, tree: Path, name: str, epoch: int) -> ImageLayer:
    packed = pack_layer(open_tools(settings), tree, tree.with_suffix(".erofs"), name=name, epoch=epoch)
    LocalStore(settings.store).add_blob(packed.path, packed.digest)
    return ImageLayer(
        role=name, key=packed.digest, digest=packed.digest, size=packed.size, verity=packed.verity, needs=()
    )


def _pad(store: LocalStore, kernel: ImageBlob, folder: Path, size_bytes: int) -> ImageBlob:
    """Return the kernel with zeros behind its end: it boots as before, under another digest."""
    path = folder / f"kernel-{size_bytes}"
    path.write_bytes(store.open_blob(kernel.digest).read_bytes() + bytes(size_bytes))
    return _add(store, path)
