"""OpenSSH with a pinned host key, never asking anything."""

import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qtrade import process
from qtrade.errors import HostError, ToolError
from qtrade.redaction import redact
from qtrade.ssh_sharing import shared_connections

_MAX_SOCKET_PATH = 60
_FAILED = 255


def ssh_options(host: str, known_hosts: Path) -> list[str]:
    """Return the options of OpenSSH for a host whose one key is pinned in `known_hosts`: strict, and never a question."""
    settings = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": host,
        "ConnectTimeout": "10",
        "ConnectionAttempts": "1",
        "NumberOfPasswordPrompts": "1",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "6",
        "LogLevel": "ERROR",
    }
    return ["-F", "/dev/null", *_as_options(settings)]


def _as_options(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


@dataclass(frozen=True)
class SshTarget:
    """A host as its operator's SSH client sees it. `known_hosts` holds its one pinned key.

    `sockets` is where the connection that this process's commands share has its socket; None: each command connects anew.
    """

    host: str
    address: str
    port: int
    user: str
    identity_file: Path
    known_hosts: Path
    sockets: Path | None = None

    def options(self) -> list[str]:
        """Return the options that every connection has."""
        own = {
            "IdentitiesOnly": "yes",
            "IdentityFile": str(self.identity_file),
            "PreferredAuthentications": "publickey",
        }
        return [*ssh_options(self.host, self.known_hosts), *_as_options(own)]

    def argv(self, command: str, *extra: str) -> list[str]:
        """Return the command line that runs `command` on the host."""
        return ["ssh", *self.options(), *extra, *self._destination, command]

    @property
    def _destination(self) -> tuple[str, ...]:
        return ("-p", str(self.port), f"{self.user}@{self.address}")

    def config(self, sockets: Path) -> str:
        """Return the same as text of an ssh_config, for programs that call ssh themselves.

        They use the connection that this target shares; without one, connections of their own through `sockets`.
        """
        pairs = [option.split("=", 1) for option in self.options() if "=" in option]
        lines = [f"Host {self.host}", f"  HostName {self.address}", f"  Port {self.port}", f"  User {self.user}"]
        lines += [f"  {name} {value}" for name, value in pairs]
        if self.sockets is not None:
            shared = shared_connections(self.sockets).socket(self.options(), self._destination)
            lines.append(f"  ControlPath {shared}")
        elif len(str(sockets)) <= _MAX_SOCKET_PATH:  # a socket's path has at most 108 bytes
            lines.append(f"  ControlPath {sockets}/%C")
        return "\n".join(lines) + "\n"

    def run(
        self,
        command: str,
        *,
        stdin: bytes | None = None,
        timeout_s: float = 120,
        check: bool = True,
        extra: Sequence[str] = (),
    ) -> process.Completed:
        """Run `command` and return what it said. Raises `HostError` when the host cannot be reached."""
        shared = self._share()
        try:
            done = process.run(self.argv(command, *shared, *extra), stdin=stdin, timeout_s=timeout_s, check=False)
        except ToolError:  # it took too long: whoever comes next must not wait for a connection that died
            self.disconnect()
            raise
        self.note(done.returncode)
        if done.returncode == _FAILED:
            raise unreachable(self, done.stderr)
        if check and done.returncode != 0:
            raise HostError(
                f"{self.host}: `{command}` ended with code {done.returncode}",
                details=redact((done.stderr or done.stdout)[-2000:]),
            )
        return done

    def stream(
        self, command: str, *, stdin: bytes, extra: Sequence[str], on_line: Callable[[str], None], timeout_s: float
    ) -> tuple[int, str]:
        """Run `command`, give each line of its output to `on_line`, and return its exit code and what it wrote to stderr.

        With `extra` options, such as a forward, it has a connection of its own, which takes them along when it ends.

        Raises `HostError` when the host cannot be reached, or does not come to an end within `timeout_s`.
        """
        return self.start(command, extra=extra).finish(stdin, on_line=on_line, timeout_s=timeout_s)

    def start(self, command: str, *, extra: Sequence[str] = ()) -> "StartedCommand":
        """Start `command`, which gets its stdin later. Raises `HostError` when the host cannot be reached."""
        shared = self._share() if not extra else ()
        return StartedCommand(self, command, [*shared, *extra])

    def disconnect(self) -> None:
        """End the shared connection, if there is one, such as before a reboot; the next command makes another."""
        if self.sockets is not None:
            shared_connections(self.sockets).drop(self.options(), self._destination)

    def _share(self) -> tuple[str, ...]:
        """Return the options that make a command use the shared connection. Raises `HostError` when there can be none."""
        if self.sockets is None:
            return ()
        socket, said = shared_connections(self.sockets).ensure(self.options(), self._destination)
        if said:
            raise unreachable(self, said)
        return ("-S", str(socket))

    def note(self, code: int) -> None:
        """Take notice of how a command ended: the shared connection is dropped where SSH failed."""
        if self.sockets is None:
            return
        if code == _FAILED:
            self.disconnect()
        else:
            shared_connections(self.sockets).note_answer(self.options(), self._destination)


class StartedCommand:
    """A command on its way on a host. It waits for its stdin: `finish` gives it, or `abandon` ends it without."""

    def __init__(self, target: SshTarget, command: str, extra: Sequence[str]) -> None:
        self._target, self._command = target, command
        self._child = subprocess.Popen(
            target.argv(command, *extra),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=process.clean_env(),
            start_new_session=True,
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended, though nobody gave it its stdin."""
        return self._child.poll() is not None

    def abandon(self) -> None:
        """End it; nothing happens where it was finished."""
        process.kill_group(self._child)
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def finish(self, stdin: bytes, *, on_line: Callable[[str], None], timeout_s: float) -> tuple[int, str]:
        """As `SshTarget.stream`, from where the command has got to."""
        target, child = self._target, self._child
        errors: list[bytes] = []

        def drain(pipe: IO[bytes]) -> None:
            with pipe:
                errors.append(pipe.read())

        too_long = threading.Event()

        def give_up() -> None:
            too_long.set()
            process.kill_group(child)

        timer = threading.Timer(timeout_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            if child.stdin is None or child.stdout is None or child.stderr is None:
                raise HostError(f"{target.host}: ssh has no pipes")
            reader = threading.Thread(target=drain, args=(child.stderr,), daemon=True)
            reader.start()
            with suppress(BrokenPipeError), child.stdin:
                child.stdin.write(stdin)
            with child.stdout:
                for line in child.stdout:
                    on_line(line.decode(errors="replace").rstrip("\n"))
            code = child.wait(60)
            reader.join(10)
        finally:
            timer.cancel()
            process.kill_group(child)
        if too_long.is_set():
            target.disconnect()
            raise HostError(
                f"{target.host}: `{self._command}` took longer than {timeout_s:.0f} s",
                resolution="look at the host's journal; the same command goes on where this one stopped",
            )
        said = b"".join(errors).decode(errors="replace")
        target.note(code)
        if code == _FAILED:
            raise unreachable(target, said)
        return code, said


def public_half(identity: Path) -> Path:
    """Return where ssh-keygen puts the public half of a private key: beside it, its name with `.pub` behind."""
    return identity.with_name(f"{identity.name}.pub")


def unreachable(target: SshTarget, stderr: str) -> HostError:
    """Return the error for a host that SSH cannot reach; a changed host key is called by its name."""
    if "host key is known for" in stderr:
        return HostError(
            f"{target.host} has no pinned SSH host key",
            details=stderr.strip(),
            resolution=f"flash it, or pin its key: `qtrade hosts keys --host {target.host} --accept`",
        )
    if "HOST KEY" in stderr or "host key" in stderr.lower():
        return HostError(
            f"{target.host} shows another SSH host key than the pinned one",
            details=stderr.strip(),
            resolution="find out why: nothing was sent. If the host was reinstalled outside qtrade, flash it again; "
            f"if its console shows the offered key, `qtrade hosts keys --host {target.host} --accept`",
        )
    return HostError(
        f"{target.host} cannot be reached over SSH at {target.address}:{target.port}",
        details=stderr.strip(),
        resolution=f"look at its console and at its BMC; `qtrade hosts test --host {target.host}` tries the way in part by part",
    )
