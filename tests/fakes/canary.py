"""Secrets that are planted to be found: in files, in the arguments and environments of running programs."""

import base64
import gzip
import json
import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

# With what JSON, URLs and base64's two alphabets write in ways of their own.
PLANTED = {
    "file": 'canary-of-the-file "\u00fc/+?>>~7f3a91',
    "vault": "canary-of-vault \\ %\u00e9&=>>?b27c40",
    "environment": "canary-of-the-environment \u201cw\u00f6rd\u201d ??>>~e5d810",
    "bake": "canary-of-the-bake-9c1e77d3",
}


def forms(value: str) -> dict[str, bytes]:
    """Return what to look for, by the name of its form. Written apart from `qtrade.redaction`, which it is to prove."""
    raw = value.encode()
    found = {
        "raw": raw,
        "json": json.dumps(value)[1:-1].encode(),
        "json, not ascii": json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        "url": quote(value, safe="").encode(),
        "url of forms": quote_plus(value).encode(),
        "latin": value.encode("latin-1", "replace"),
    }
    found |= {f"base64{kind}": one for kind, one in _base64(raw)}
    # A job's secret is base64 in the JSON of an envelope, which is base64 itself.
    found |= {f"base64 in base64{kind}": one for kind, one in _base64(base64.b64encode(raw))}
    return {name: one for name, one in found.items() if len(one) >= 12}


def _base64(content: bytes) -> Iterator[tuple[str, bytes]]:
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + content)
        part = encoded[before + 1 if before else 0 : (before + len(content)) // 3 * 4]
        yield f" at {before}", part
        yield f" for URLs at {before}", part.translate(bytes.maketrans(b"+/", b"-_"))


def find_in(content: bytes, values: Mapping[str, str]) -> list[str]:
    """Return which values are in the bytes and how, also in what gzip and zlib make of them."""
    bodies = [content]
    for unpack in (gzip.decompress, zlib.decompress):
        with suppress(OSError, EOFError, zlib.error):
            bodies.append(unpack(content))
    return [
        f"{who}: {how}"
        for who, value in values.items()
        for how, one in forms(value).items()
        if any(one in body for body in bodies)
    ]


@dataclass(frozen=True)
class Searched:
    """How many files were read, and where something was."""

    files: int
    hits: tuple[str, ...]


def search(roots: Iterable[Path], values: Mapping[str, str], *, without: Sequence[Path] = ()) -> Searched:
    """Look through all files, names too, below `roots` but not below `without`."""
    hits, files = [], 0
    for root in roots:
        for path in sorted(root.rglob("*")):
            if any(path.is_relative_to(other) for other in without):
                continue
            hits += [f"the name of {path}: {one}" for one in find_in(os.fsencode(path), values)]
            if path.is_file() and not path.is_symlink():
                files += 1
                hits += [f"{path}: {one}" for one in find_in(path.read_bytes(), values)]
    return Searched(files, tuple(hits))


@dataclass
class Watched:
    """What `ps` would have shown meanwhile: command lines, and environments of all programs but `own`."""

    values: Mapping[str, str]
    own: set[int] = field(default_factory=set)
    rounds: int = 0
    programs: set[str] = field(default_factory=set)
    hits: set[str] = field(default_factory=set)

    def look(self) -> None:
        self.rounds += 1
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with suppress(OSError):
                line = (folder / "cmdline").read_bytes()
                shown = line.replace(b"\0", b" ").decode(errors="replace")
                self.programs.add(shown.partition(" ")[0].rpartition("/")[2])
                self.hits.update(f"arguments of {shown[:80]}: {one}" for one in find_in(line, self.values))
                if int(folder.name) not in self.own and not self._is_unborn(folder, line):
                    environment = (folder / "environ").read_bytes()
                    self.hits.update(f"environment of {shown[:80]}: {one}" for one in find_in(environment, self.values))

    def _is_unborn(self, folder: Path, line: bytes) -> bool:
        """Say whether it is a copy of one of our own that has not become another program yet: between fork and exec."""
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        return parent in self.own and (Path("/proc") / str(parent) / "cmdline").read_bytes() == line


@contextmanager
def watch_programs(values: Mapping[str, str], *own: int) -> Iterator[Watched]:
    """Look at all programs again and again until the block ends; who is in `own` may have them in its environment."""
    watched, over = Watched(values, {os.getpid(), *own}), threading.Event()

    def go_on() -> None:
        while not over.is_set():
            watched.look()
            time.sleep(0.002)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join(30)
