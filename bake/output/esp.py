"""The EFI system partition in a file, filled by mtools."""

import os
from collections.abc import Sequence
from pathlib import Path

from qtrade.toolsroot import ToolsRoot


def make_esp(  # noqa: PLR0913 - a filesystem is made of this much
    tools: ToolsRoot, path: Path, tree: Path, *, command: Sequence[str], size_bytes: int, serial: str, epoch: int
) -> None:
    """Write a FAT filesystem with the files below `tree` to the file `path`.

    `command` makes it, but for the device; `serial` is 8 hex digits. All times are `epoch`. Raises `ToolError`.
    """
    with path.open("wb") as file:
        file.truncate(size_bytes)
    env = {"SOURCE_DATE_EPOCH": str(epoch), "MTOOLS_SKIP_CHECK": "1"}
    program, *options = command
    tools.run(program, "--invariant", "-i", serial, *options, path, env=env)
    for source in sorted(tree.rglob("*")):
        inside = f"::{source.relative_to(tree)}"
        os.utime(source, (epoch, epoch))
        if source.is_dir():
            tools.run("mmd", "-i", path, inside, env=env)
        else:
            tools.run("mcopy", "-m", "-i", path, source, inside, env=env)
