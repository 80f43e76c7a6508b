"""The initial RAM filesystems: the host's (it stacks the layers) and the installer's (it runs the agent)."""

import shutil
from pathlib import Path

from bake import grub, pack
from bake.chamber import Chamber, Command, run_in_chamber
from bake.plan import INSTALLER
from bake.unsealed import Unsealed
from qtrade import clock
from qtrade.settings import Settings
from qtrade.store import BlobRecord
from qtrade.toolsroot import ToolsRoot

_INSIDE = "/run/qtrade"


def make_initramfs(  # noqa: PLR0913 - an initramfs is made of this much
    settings: Settings,
    tools: ToolsRoot,
    unsealed: Unsealed,
    *,
    name: str,
    key: str,
    base: Path,
    release: str,
    epoch: int,
) -> BlobRecord:
    """Make the initial RAM filesystem `name` (`INITRD` or `INSTALLER`) for kernel `release` on the `base` layer's blob.

    It is kept back for the seal.
    """
    code = Path(__file__).resolve().parent
    work = settings.work_dir / f"initramfs-{name}"
    shutil.rmtree(work, ignore_errors=True)
    out = work / "out"
    out.mkdir(parents=True)
    config = work / "config"
    shutil.copytree(code / "initramfs" / ("installer" if name == INSTALLER else "os"), config)
    binds = {str(config): f"{_INSIDE}/initramfs", str(out): f"{_INSIDE}/out", **clock.binds()}
    if name == INSTALLER:
        boot = work / "grub"
        boot.mkdir()
        grub.build_grub(tools, boot)
        shutil.copyfile(code / "grub/grub.cfg", boot / "grub.cfg")
        binds[str(boot)] = f"{_INSIDE}/grub"
        binds[str(code.parent / "flash/agent")] = f"{_INSIDE}/components/qtrade-agent"
    root = work / "root"
    command = ("chroot", str(root), "mkinitramfs", "-d", f"{_INSIDE}/initramfs", "-o", f"{_INSIDE}/out/initrd", release)
    run_in_chamber(
        Chamber(folder=work, layers=(base,), commands=(Command(clock.shifted(command)),), binds=binds),
        env={"SOURCE_DATE_EPOCH": str(epoch), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout_s=900,
    )
    image = out / "initrd"
    digest = pack.sha256_file(image)
    record = BlobRecord(key, name, digest, image.stat().st_size)
    unsealed.add(image, record, ())
    shutil.rmtree(work)
    return record
