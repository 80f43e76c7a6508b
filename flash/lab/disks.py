"""The disks of a lab host: made once, never touched again by the lab."""

import hashlib
import random
import shutil
import tempfile
from pathlib import Path

from flash.lab.facts import MIB, LabDisk, LabFacts, LabPaths
from qtrade.machine.spec import Firmware
from qtrade.toolsroot import ToolsRoot

DATA_LABEL = "qtrade-data"
LEDGER_LABEL = "qtrade-ledger"
_LEDGER_FILE_BYTES = 40 * MIB


def make_disks(paths: LabPaths, facts: LabFacts, tools: ToolsRoot) -> None:
    """Make those disks of the host that do not exist yet, and for UEFI its variables. Raises `ToolError`."""
    if not paths.os_disk.exists():
        _make_blank(paths.os_disk, facts.os_disk.size_bytes)
    if not paths.ledger.exists():
        with tempfile.TemporaryDirectory(dir=paths.folder) as content:
            # Seeded, so that a test can tell whether even one byte changed without keeping a copy.
            noise = random.Random(facts.uuid).randbytes(_LEDGER_FILE_BYTES)  # noqa: S311 - not a secret
            (Path(content) / "rocksdb").write_bytes(noise)
            _make_ext4(paths.ledger, facts.ledger, LEDGER_LABEL, tools, content=Path(content))
    if not paths.data.exists():
        _make_ext4(paths.data, facts.data, DATA_LABEL, tools)
    if facts.firmware is Firmware.UEFI and not paths.uefi_vars.exists():
        shutil.copyfile(tools.root / "usr/share/OVMF/OVMF_VARS_4M.fd", paths.uefi_vars)


def digest_disk(path: Path) -> str:
    """Return the SHA-256 of a whole disk, in hex."""
    with path.open("rb") as disk:
        return hashlib.file_digest(disk, "sha256").hexdigest()


def _make_blank(path: Path, size_bytes: int) -> None:
    with path.open("wb") as disk:
        disk.truncate(size_bytes)


def _make_ext4(path: Path, disk: LabDisk, label: str, tools: ToolsRoot, *, content: Path | None = None) -> None:
    fresh = path.with_suffix(".new")
    _make_blank(fresh, disk.size_bytes)
    uuid = str(disk.fs_uuid)
    extended = f"hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
    options = ["-q", "-F", "-t", "ext4", "-b", "4096", "-L", label, "-U", uuid, "-E", extended]
    if content is not None:
        options += ["-d", str(content)]
    config = {"MKE2FS_CONFIG": str(tools.root / "etc/mke2fs.conf")}
    tools.run("mke2fs", *options, fresh, env=config)
    fresh.replace(path)
