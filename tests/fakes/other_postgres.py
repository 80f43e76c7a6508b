"""A PostgreSQL of another major version than the lab's image has: Debian 12's, unpacked and never installed."""

import shutil
from pathlib import Path

from qtrade import process
from qtrade.settings import Settings

PACKAGE = "postgresql-15"


def locate(settings: Settings) -> Path:
    """Return a root with the package and all that it needs, unpacked first where it is not (root, network)."""
    target = settings.state_dir / "roots" / PACKAGE
    if not (target / "usr/lib/postgresql/15/bin/postgres").is_file():
        fresh = target.with_name(f"{PACKAGE}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        options = ("--mode=root", "--variant=extract", f"--include={PACKAGE}", "--format=directory")
        process.run([*process.DIES_WITH_US, "mmdebstrap", *options, "bookworm", fresh], timeout_s=600)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    return target
