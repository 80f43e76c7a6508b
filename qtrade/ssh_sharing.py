"""One SSH connection per host and user for the whole process: firewalls limit new connections, and each costs a handshake.

A connection is a background `ssh` with a socket (OpenSSH's ControlMaster). It is asked for a sign of life before it is used,
since a host that lost its power never says that a connection has ended.
"""

import atexit
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from qtrade import process
from qtrade.errors import ToolError

# A socket's path has at most 108 bytes, and ssh adds 17 to it while it makes the socket.
_MAX_FOLDER = 65
_LOCK = "lock"
_YOUNG_S = 60.0
# A connection that nobody uses ends by itself after so long, also when this process was killed.
_IDLE_S = 120
# What answered just now is not asked again whether it lives.
_FRESH_S = 5.0
_ALIVE_S = 8.0
_CONNECT_S = 40.0
# The first value of an option counts: a host that went silent is noticed after 30 s, also in the middle of a command.
_OPTIONS = ("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")


@dataclass
class _Shared:
    """A connection. `lock` lets one thread at a time look after it."""

    socket: Path
    destination: tuple[str, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)
    answered_at: float = 0.0


class SharedConnections:
    """The connections of this process, with their sockets in a private folder below `parent`."""

    def __init__(self, parent: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, ...], _Shared] = {}
        self._lock = threading.Lock()
        self.folder, self._guard = _make_folder(parent)

    def socket(self, options: Sequence[str], destination: Sequence[str]) -> Path:
        """Return the socket of a connection, whether it is there or not."""
        return self._find(options, destination).socket

    def ensure(self, options: Sequence[str], destination: Sequence[str]) -> tuple[Path, str]:
        """Return the socket of a connection that lives, made now if need be, and ssh's own words when it cannot be made."""
        shared = self._find(options, destination)
        with shared.lock:
            if self._lives(shared, options, destination):
                return shared.socket, ""
            self._end(shared)
            said = _connect(shared.socket, options, destination)
            if not said:
                shared.answered_at = self._clock()
            return shared.socket, said

    def note_answer(self, options: Sequence[str], destination: Sequence[str]) -> None:
        """Remember that a command over the connection was answered just now."""
        self._find(options, destination).answered_at = self._clock()

    def drop(self, options: Sequence[str], destination: Sequence[str]) -> None:
        """End a connection, if there is one; the next command makes another."""
        shared = self._find(options, destination)
        with shared.lock:
            self._end(shared)

    def close(self) -> None:
        """End all connections and remove the folder."""
        with self._lock:
            ended = list(self._known.values())
            self._known.clear()
        for shared in ended:
            with shared.lock:
                self._end(shared)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._guard)

    def _find(self, options: Sequence[str], destination: Sequence[str]) -> _Shared:
        key = (*options, *destination)
        with self._lock:
            if key not in self._known:
                name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:12]
                self._known[key] = _Shared(self.folder / name, tuple(destination))
            return self._known[key]

    def _lives(self, shared: _Shared, options: Sequence[str], destination: Sequence[str]) -> bool:
        if not shared.socket.exists() or not _ask(shared.socket, "check", destination):
            return False
        if self._clock() - shared.answered_at < _FRESH_S:
            return True
        # The proxy that fails keeps ssh from making a connection of its own where the shared one just ended.
        command = ["ssh", "-S", str(shared.socket), *options, "-o", "ProxyCommand=false", *destination, "true"]
        try:
            return process.run(command, timeout_s=_ALIVE_S, check=False).returncode == 0
        except ToolError:
            return False

    def _end(self, shared: _Shared) -> None:
        shared.answered_at = 0.0
        if shared.socket.exists():
            _ask(shared.socket, "exit", shared.destination)
            shared.socket.unlink(missing_ok=True)


_opened: dict[Path, SharedConnections] = {}
_opening = threading.Lock()


def shared_connections(parent: Path) -> SharedConnections:
    """Return this process's connections with sockets below `parent`; they are closed when the process ends."""
    with _opening:
        if parent not in _opened:
            _opened[parent] = SharedConnections(parent)
        return _opened[parent]


@atexit.register
def close_all() -> None:
    """End all connections of this process."""
    with _opening:
        for connections in _opened.values():
            connections.close()
        _opened.clear()


def _connect(socket: Path, options: Sequence[str], destination: Sequence[str]) -> str:
    """Make a connection that stays in the background. Returns ssh's own words when that fails."""
    log = socket.with_suffix(".log")
    log.unlink(missing_ok=True)
    stay = ("-M", "-N", "-f", "-S", str(socket), "-o", f"ControlPersist={_IDLE_S}")
    # Its output goes to a file: a pipe would stay open for as long as the connection does.
    child = process.spawn(["ssh", *stay, *_OPTIONS, *options, *destination], log=log)
    try:
        code = child.wait(_CONNECT_S)
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        process.kill_group(child)
    if code == 0:
        return ""
    said = log.read_text(errors="replace").strip()
    return said or (f"no connection within {_CONNECT_S:.0f} s" if code < 0 else f"ssh ended with code {code}")


def _ask(socket: Path, request: str, destination: Sequence[str]) -> bool:
    command = ["ssh", "-F", "/dev/null", "-S", str(socket), "-O", request, *destination]
    try:
        return process.run(command, timeout_s=5, check=False).returncode == 0
    except ToolError:
        return False


def _make_folder(parent: Path) -> tuple[Path, int]:
    """Make a private folder, remove those of processes that are gone, and return it with the lock that says it is used."""
    if len(str(parent)) > _MAX_FOLDER:
        parent = Path(tempfile.gettempdir()) / f"qtrade-ssh-{os.getuid()}"
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if parent.stat().st_uid != os.getuid():
        parent = Path(tempfile.mkdtemp(prefix="qtrade-ssh-"))
    parent.chmod(0o700)
    _remove_stale(parent)
    folder = Path(tempfile.mkdtemp(prefix="", dir=parent))
    guard = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(guard, fcntl.LOCK_EX)
    return folder, guard


def _remove_stale(parent: Path) -> None:
    for folder in parent.iterdir():
        lock = folder / _LOCK
        with suppress(OSError):
            if not lock.exists() and time.time() - folder.stat().st_mtime < _YOUNG_S:
                continue
            guard = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for socket in folder.iterdir():
                    if socket.is_socket():
                        _ask(socket, "exit", ("stale",))
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(guard)
