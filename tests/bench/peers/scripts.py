"""Shell scripts of the peers: the few commands in a row that a person would type or put into a Makefile."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from qtrade.toolsroot import PATH_RULES, ToolsRoot

# The files that were copied before stay.
INSTALL_STANDINS = "dpkg --force-confold -i {folder}/*.deb && rm {folder}/*.deb"
Line = str | Sequence[str | Path]
_APT = ('Acquire::Languages "none"', 'Apt::Install-Recommends "false"', 'Acquire::Retries "3"')


def write_script(path: Path, lines: Sequence[Line]) -> Path:
    """Write an executable script that stops at the first failure. A line is shell text, or arguments that are quoted."""
    text = [line if isinstance(line, str) else shlex.join(str(word) for word in line) for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/bash", "set -eu", *text, "")))
    path.chmod(0o755)
    return path


def bootstrap(packages: Sequence[str], suite: str, target: Path, archives: Path, *extra: str) -> list[str]:
    """Return the `mmdebstrap` command that makes the folder `target`, with the options of qtrade's own base.

    .debs are taken from `archives` and left there. No mirror is named: the tool's default serves.
    """
    return [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={','.join(packages)}"),
        *(f"--aptopt={option}" for option in _APT),
        *(f"--dpkgopt=path-{rule}" for rule in PATH_RULES),
        *("--dpkgopt=force-unsafe-io", "--skip=essential/unlink,download/empty"),
        '--setup-hook=mkdir -p "$1"/var/cache/apt/archives/',
        f"--setup-hook=sync-in {archives} /var/cache/apt/archives/",
        *extra,
        f"--customize-hook=sync-out /var/cache/apt/archives {archives}",
        *(suite, str(target)),
    ]


def pack(tools: ToolsRoot, tree: Path, target: Path) -> list[str]:
    """Return the command that packs `tree` as qtrade packs its layers: EROFS, lz4."""
    return tools.argv("mkfs.erofs", "--quiet", "-zlz4", "-C65536", target, tree)


def fill_archives(archives: Path, debs: Path | None) -> None:
    """Make `archives` anew: with the .debs of a cache (a folder for each), or empty."""
    shutil.rmtree(archives, ignore_errors=True)
    (archives / "partial").mkdir(parents=True)
    for deb in sorted(debs.glob("*/*.deb")) if debs else ():
        shutil.copy2(deb, archives / deb.name)


def first_line(*argv: str) -> str:
    """Return the first line that a program prints: its version."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]
