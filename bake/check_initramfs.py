"""Check a finished initial RAM filesystem: the seal's scan of every file in it. The archive is read as it is, without root."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from bake.check import POLICY, refuse_findings
from bake.inputs import hash_folder
from bake.plan import digest_of
from bake.unsealed import Unsealed
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import BlobRecord
from qtrade.toolsroot import ToolsRoot

if TYPE_CHECKING:
    from qtrade.initrd import Entry


def initramfs_check_key(settings: Settings, name: str, record: BlobRecord) -> str:
    """Return the key of the check: the blob that it looks at, and everything that looks."""
    code = Path(__file__).resolve().parent
    return digest_of(
        {
            "name": name,
            "blob": record.digest,
            "policy": hash_folder(settings.find(POLICY)),
            "code": [hash_folder(code / part) for part in ("seal", "check.py", "check_initramfs.py")],
            "reader": hash_folder(code.parent / "qtrade/initrd.py"),
        }
    )


def check_initramfs(
    settings: Settings, tools: ToolsRoot, unsealed: Unsealed, name: str, record: BlobRecord, *, reporter: Reporter
) -> BlobRecord:
    """Scan the initial RAM filesystem `name` and remember that it passed; it goes to the store then.

    Raises `Refused`, naming each path and finding.
    """
    from qtrade.initrd import read_initrd  # noqa: PLC0415 - takes time, and most bakes check nothing

    work = settings.work_dir / f"check-{name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with reporter.step(f"check {name}"):
        entries = read_initrd(tools, unsealed.open_blob(record.digest), work)
        found = [{"path": path, "what": what} for entry in entries for path, what in _scan(entry)]
        refuse_findings(settings, name, found, change="the base's packages, or the hooks in bake/initramfs,")
    passed = BlobRecord(initramfs_check_key(settings, name, record), f"check {name}", facts={"ran": "0"})
    unsealed.release(record)
    unsealed.store.add_record(passed)
    shutil.rmtree(work)
    return passed


def _scan(entry: "Entry") -> Iterator[tuple[str, str]]:
    from bake.seal import scan  # noqa: PLC0415 - the same

    if S_ISREG(entry.mode):
        if scan.is_forbidden(entry.name):
            yield entry.name, "a file of a machine or of the bake"
        yield from ((entry.name, what) for what in scan.find_in_content(entry.data, entry.name))
