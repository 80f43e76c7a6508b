"""The netboot set: what a plain HTTP server needs to serve to boot an image's installer, and the image for it to fetch."""

import json
import shutil
from pathlib import Path

from qtrade.manifest import Image
from qtrade.store import PublishedImage
from qtrade.toolsroot import ToolsRoot

_IPXE = "usr/lib/ipxe/snponly.efi"
# The job is the host's own and signed by `qtrade flash`; the script that chains this one sets its URL and the id of the root key.
_SCRIPT = """#!ipxe
isset ${job} || goto incomplete
isset ${root} || goto incomplete
kernel kernel %s qtrade.job=${job} qtrade.root=${root} qtrade.mac=${netX/mac} initrd=initrd || exit
initrd --name initrd initrd || exit
boot || exit
:incomplete
echo qtrade: set job (URL of the signed job) and root (id of the root key) before this script is chained
sleep 10
exit
"""
INSTALLER_ARGUMENTS = "boot=installer console=tty0 console=ttyS0,115200n8 panic=10"


def write_netboot(tools: ToolsRoot, published: PublishedImage, blobs: dict[str, Path], folder: Path) -> None:
    """Write the set into the empty `folder`: boot.ipxe, ipxe.efi, kernel, initrd (the installer), the image's documents, blobs/<sha256>.

    `blobs` are the files of the image's blobs and of its installer, verified, by digest.
    """
    image = Image.model_validate_json(published.image_text)
    (folder / "boot.ipxe").write_text(_SCRIPT % INSTALLER_ARGUMENTS)
    shutil.copyfile(tools.root / _IPXE, folder / "ipxe.efi")
    shutil.copyfile(blobs[image.kernel.digest], folder / "kernel")
    shutil.copyfile(blobs[image.installer.digest], folder / "initrd")
    (folder / "list").write_text(published.list_text)
    (folder / "list.sig").write_bytes(published.list_sig)
    (folder / "image.json").write_text(published.image_text)
    (folder / "image.dsse.json").write_text(json.dumps(published.envelope, sort_keys=True))
    (folder / "blobs").mkdir()
    for digest in image.blobs():
        shutil.copyfile(blobs[digest], folder / "blobs" / digest)
