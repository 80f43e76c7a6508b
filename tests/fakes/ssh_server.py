"""A real OpenSSH server on the loopback, of the machine's own Debian, unpacked and never installed: it logs every connection."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flash.ssh import known_hosts_path
from qtrade import process
from qtrade.settings import Settings
from qtrade.ssh import SshTarget

_START_S = 20
# What sshd asks of the machine that an unpacked one does not give it: its own user, and a folder to lock itself into.
ENTER = """
mount -t tmpfs none /run
mkdir /run/sshd /run/state
cp /etc/passwd /run/state/passwd
grep -q ^sshd: /etc/passwd || echo 'sshd:x:74:65534::/run/sshd:/usr/sbin/nologin' >>/run/state/passwd
mount --bind /run/state/passwd /etc/passwd
if [ -n "${2-}" ]; then . "$2"; fi
exec "$0" -D -e -f "$1"
"""


@dataclass
class SshServer:
    """A server at `port`; root logs in with the key `identity`. `enter` runs first, in namespaces of its own kinds (`spaces`).

    The shell text in the file `setup` follows, in the same mounts.
    """

    folder: Path
    root: Path
    port: int = 0
    setup: Path | None = None
    enter: str = ENTER
    spaces: tuple[str, ...] = ("--mount",)
    child: subprocess.Popen[bytes] | None = None

    @property
    def identity(self) -> Path:
        return self.folder / "user_key"

    @property
    def log(self) -> str:
        path = self.folder / "sshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def connections(self) -> int:
        """How many connections have logged in so far."""
        return self.log.count("Accepted publickey")

    def target(self, settings: Settings, *, user: str = "root") -> SshTarget:
        """Return how qtrade reaches it, with its key pinned."""
        known_hosts = known_hosts_path(settings, "box")
        known_hosts.parent.mkdir(parents=True, exist_ok=True)
        known_hosts.write_text(f"box {(self.folder / 'host_key.pub').read_text()}")
        sockets = settings.state_dir / "ssh"
        return SshTarget("box", "127.0.0.1", self.port, user, self.identity, known_hosts, sockets)

    def start(self) -> None:
        """Start, and wait until it listens."""
        command = [
            "unshare",
            *self.spaces,
            "sh",
            "-euc",
            self.enter,
            self.root / "usr/sbin/sshd",
            self.folder / "sshd_config",
            *([self.setup] if self.setup else []),
        ]
        env = {"LD_LIBRARY_PATH": ":".join(str(path) for path in self.root.glob("**/*-linux-gnu"))}
        self.child = process.spawn(command, log=self.folder / "sshd.log", env=env)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.child.poll() is None, self.log
            time.sleep(0.05)
        raise AssertionError(f"sshd does not listen: {self.log}")

    def sessions(self) -> list[int]:
        """Return the processes that serve connections."""
        assert self.child is not None
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def stop(self) -> None:
        """End the server and all that it serves."""
        if self.child is None:
            return
        for pid in self.sessions():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill_group(self.child)
        self.child = None


@contextmanager
def serve_ssh(settings: Settings, folder: Path, *more: str, setup: Path | None = None) -> Iterator[SshServer]:
    """Serve until the block ends. `settings` say where the unpacked server is kept; `more` are lines of its config."""
    server = make_server(settings, folder, *more, setup=setup)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def make_server(settings: Settings, folder: Path, *more: str, setup: Path | None = None) -> SshServer:
    """Make keys and config of a server, which is not started. The arguments are those of `serve_ssh`."""
    folder.mkdir(parents=True)
    server = SshServer(folder, _unpack(settings.cache_dir / "tests/sshd"), _free_port(), setup)
    for name in ("host_key", "user_key"):
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name])
    (folder / "authorized").write_text((folder / "user_key.pub").read_text())
    lines = {
        "ListenAddress": "127.0.0.1",
        "Port": server.port,
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "authorized",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PermitRootLogin": "prohibit-password",
        "LogLevel": "INFO",
    }
    (folder / "sshd_config").write_text(
        "".join([f"{name} {value}\n" for name, value in lines.items()] + [f"{line}\n" for line in more])
    )
    return server


def _unpack(folder: Path) -> Path:
    """Have sshd's files in the folder; test processes take turns."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if (folder / "usr/sbin/sshd").exists():
            return folder
        fresh = folder.with_name(f"{folder.name}.new")
        for left in (fresh, folder):
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir()
        # apt drops its rights for a download, and must be able to write there.
        fresh.chmod(0o755)
        process.run(["apt-get", "download", "-qq", "openssh-server", "libwrap0"], cwd=fresh, timeout_s=300)
        for package in sorted(fresh.glob("*.deb")):
            process.run(["dpkg", "--extract", package, fresh])
        fresh.rename(folder)
        return folder


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
