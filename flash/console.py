"""The host's serial console during a flash, kept beside the journal: what a failed boot said is gone from the screen soon."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from flash.context import FlashContext
from qtrade import process
from qtrade.errors import QtradeError
from qtrade.redaction import redact

_POLL_S = 0.5
_LINE_BYTES = 4096
_LIMIT_BYTES = 32 << 20
_SHOWN = 15
_RESTART_S = 10.0


@contextmanager
def captured(context: FlashContext) -> Iterator[None]:
    """Keep the console in a file beside the journal while the block runs; its last lines stand in the error that ends it.

    The host's `console` is a file that the console is written to, or a command that prints it; without one, nothing happens.
    """
    source = context.host.console
    if source is None:
        yield
        return
    kept = context.journal.path.with_suffix(".console")
    kept.parent.mkdir(parents=True, exist_ok=True)
    over = threading.Event()
    with kept.open("ab", buffering=0) as sink:
        begin = sink.tell()
        kept_lines = _Sink(sink)
        follow = _follower(source)
        thread = threading.Thread(target=follow, args=(kept_lines, over), name="console", daemon=True)
        thread.start()
        try:
            yield
        except QtradeError as error:
            over.set()
            thread.join(5)  # it looks once more before it ends
            tail = _tail(kept, begin)
            if tail:
                error.details = "\n".join(filter(None, (error.details, f"console ({kept}):", *tail)))
            raise
        finally:
            over.set()
            thread.join(5)


def _follower(source: Path | tuple[str, ...]) -> "Callable[[_Sink, threading.Event], None]":
    if isinstance(source, Path):
        # From where it stands now, not when the thread comes to it.
        return partial(_follow_file, source, *_where(source))
    return partial(_follow_command, source)


class _Sink:
    """Takes bytes, keeps whole lines without secrets and without control codes, and no more than a limit."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rest = b""
        self._left = _LIMIT_BYTES

    def take(self, content: bytes) -> None:
        """Keep what is complete; the rest waits for its end."""
        *lines, self._rest = (self._rest + content).split(b"\n")
        if len(self._rest) > _LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            text = redact(line.decode(errors="replace").rstrip("\r"))
            shown = "".join(sign for sign in text if sign.isprintable() or sign == "\t").encode() + b"\n"
            if len(shown) <= self._left:
                self._left -= len(shown)
                self._file.write(shown)

    def end(self) -> None:
        """Keep the last line too, though nothing ended it."""
        if self._rest:
            self.take(b"\n")


def _follow_file(source: Path, place: int, inode: int, sink: _Sink, over: threading.Event) -> None:
    """Copy what is added to a file from `place` on; one that was made anew is read from its start."""
    while True:
        last = over.is_set()
        with suppress(OSError), source.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != inode or status.st_size < place:
                place, inode = 0, status.st_ino
            file.seek(place)
            content = file.read()
            place += len(content)
            sink.take(content)
        if last:
            sink.end()
            return
        over.wait(_POLL_S)


def _follow_command(source: tuple[str, ...], sink: _Sink, over: threading.Event) -> None:
    """Copy what a command prints; one that ends is started again, as consoles end with the BMC's session."""
    while not over.is_set():
        try:
            child = subprocess.Popen(
                source,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=process.clean_env(),
                start_new_session=True,
            )
        except OSError as error:
            sink.take(f"qtrade: {source[0]}: {error.strerror}\n".encode())
            over.wait(_RESTART_S)
            continue
        reader = threading.Thread(target=_drain, args=(child, sink), daemon=True)
        reader.start()
        while child.poll() is None and not over.wait(_POLL_S):
            pass
        process.kill_group(child)
        reader.join(5)
        over.wait(_RESTART_S)
    sink.end()


def _drain(child: "subprocess.Popen[bytes]", sink: _Sink) -> None:
    if child.stdout is None:
        return
    with child.stdout:
        while content := os.read(child.stdout.fileno(), _LINE_BYTES):
            sink.take(content)


def _where(source: Path) -> tuple[int, int]:
    try:
        status = source.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_ino


def _tail(kept: Path, begin: int) -> list[str]:
    with kept.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return [f"  {line}" for line in lines if line.strip()][-_SHOWN:]
