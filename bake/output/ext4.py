"""An ext4 filesystem in a file, without a mount: mke2fs makes it empty, debugfs fills it.

mke2fs could take a folder (`-d`), but copies the folder's owners and times along (facts of the machine that bakes); debugfs writes
root's files with the one time it is given. So the bytes depend on the entries alone, and nobody needs to be root.
"""

import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qtrade import process
from qtrade.toolsroot import ToolsRoot

BLOCK_BYTES = 4096
_FREE_LINE = re.compile(r"^\s+Free blocks: (.*)$", re.MULTILINE)
_BANNER = re.compile(r"debugfs [0-9.]+ \(.*\)")


@dataclass(frozen=True)
class Entry:
    """A file of a filesystem: its bytes are those of `source`, or it is a symlink to `target`. Folders above it are made for it."""

    path: str
    source: Path | None = None
    target: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Ext4:
    """How a filesystem is made: the `command` with its options, `size_bytes`, `uuid` (also the seed of its hashes) and its one `epoch`."""

    command: Sequence[str]
    size_bytes: int
    uuid: str
    epoch: int


def make_ext4(tools: ToolsRoot, path: Path, kind: Ext4, entries: Iterable[Entry] = ()) -> None:
    """Write the filesystem with `entries` to the file `path`; its folder is used for work. Raises `ToolError`."""
    env = {
        "MKE2FS_CONFIG": str(tools.root / "etc/mke2fs.conf"),
        "SOURCE_DATE_EPOCH": str(kind.epoch),
        "E2FSPROGS_FAKE_TIME": str(kind.epoch),
    }
    with path.open("wb") as file:
        file.truncate(kind.size_bytes)
    # What the running kernel can do decides on lazy tables, unless it is said.
    fixed = f"hash_seed={kind.uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0"
    program, *options = kind.command
    tools.run(program, *options, "-U", kind.uuid, "-E", fixed, path, env=env)
    commands = "".join(f"{command}\n" for command in _fill_commands(path.parent, entries))
    if commands:
        script = path.with_suffix(".debugfs")
        script.write_text(commands)
        done = tools.run("debugfs", "-w", "-f", script, path, env=env, cwd=path.parent)
        script.unlink()
        # It ends with code 0 whatever happens to a command, and says it here.
        problems = [line for line in done.stderr.splitlines() if line.strip() and not _BANNER.fullmatch(line.strip())]
        if problems:
            raise process.failed(process.Completed(done.argv, 1, "", "\n".join(problems)))
    tools.run("e2fsck", "-f", "-n", path, env=env)


def read_free(tools: ToolsRoot, path: Path) -> tuple[range, ...]:
    """Return the blocks (of `BLOCK_BYTES`) of the filesystem at `path` that hold nothing: their content does not matter."""
    text = tools.run("dumpe2fs", path, timeout_s=120).stdout
    return parse_free(text)


def parse_free(text: str) -> tuple[range, ...]:
    """Return the free blocks that the output of dumpe2fs names, in order; neighbours are one range."""
    found: list[range] = []
    for line in _FREE_LINE.findall(text):
        for part in filter(None, (one.strip() for one in line.split(","))):
            first, _, last = part.partition("-")
            blocks = range(int(first), int(last or first) + 1)
            if found and found[-1].stop == blocks.start:
                found[-1] = range(found[-1].start, blocks.stop)
            else:
                found.append(blocks)
    return tuple(found)


def _fill_commands(folder: Path, entries: Iterable[Entry]) -> Iterator[str]:
    """Yield debugfs commands. Sources are linked beside the filesystem: the program takes names of at most 255 bytes."""
    made = {PurePosixPath("/")}
    for number, entry in enumerate(sorted(entries, key=lambda one: one.path)):
        path = PurePosixPath("/") / entry.path
        for parent in reversed(path.parents):
            if parent not in made:
                made.add(parent)
                yield f"mkdir {_quote(parent)}"
        if entry.source is None:
            yield f"symlink {_quote(path)} {entry.target}"
            continue
        link = folder / f"entry{number}"
        link.unlink(missing_ok=True)
        link.symlink_to(entry.source.absolute())
        quoted = _quote(path)
        yield f"write {link.name} {quoted}"
        yield f"sif {quoted} mode 0{stat.S_IFREG | entry.mode:o}"
        yield f"sif {quoted} uid {entry.uid}"
        yield f"sif {quoted} gid {entry.gid}"


def _quote(path: PurePosixPath) -> str:
    doubled = str(path).replace('"', '""')
    return f'"{doubled}"'
