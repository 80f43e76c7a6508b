"""A Linux that is not ours, reached over SSH: a provider's rescue system, or what ran on the host before qtrade.

Nothing of it is used but a shell, tar, mount and chroot: the agent runs in the files of our own installer, with its Python and
its disk tools, so neither the age of that system nor what it has installed matters.
"""

import json
import shlex
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flash.agent.kexec import JOB_PATH
from flash.context import FlashContext
from flash.doors import DoorClosed
from flash.doors.login import first_keys, log_in_once, write_known_keys
from flash.doors.tunnel import Tunnel
from flash.drivers import RescueLogin
from flash.jobs import SignedJob, check_report, failure
from flash.ssh import known_hosts_path
from qtrade.errors import HostError, QtradeError
from qtrade.initrd import read_initrd, write_tar
from qtrade.redaction import redact
from qtrade.ssh import SshTarget, public_half
from qtrade.toolsroot import open_tools

_ROOT = "/run/qtrade-installer"
_POLL_S = 3.0
_TIMEOUT_S = 900.0
# Without these the agent could not write the OS disk or read an image's layers.
_NEEDED = ("ext4", "vfat", "erofs")
_FACTS = """
for module in ext4 vfat erofs loop; do modprobe -q $module 2>/dev/null; done
echo "boot_id=$(cat /proc/sys/kernel/random/boot_id)"
while read -r device target kind rest; do [ "$target" = / ] && root=$kind; done </proc/mounts
echo "root=$root"
echo "release=$(uname -r)"
[ -e /run/qtrade/boot ] && echo ours=yes
while read -r first second; do echo "filesystem.${second:-$first}=yes"; done </proc/filesystems
true
"""
_UNPACK = f"""
set -e
umount -R -l {_ROOT} 2>/dev/null || true
mkdir -p {_ROOT}
mount -t tmpfs -o size=75%,mode=0700 tmpfs {_ROOT}
tar -x -f - -C {_ROOT}
for name in dev proc sys; do mkdir -p {_ROOT}/$name; mount --rbind /$name {_ROOT}/$name; done
mkdir -p {_ROOT}/run
mount -t tmpfs -o mode=0755 tmpfs {_ROOT}/run
"""


@dataclass(frozen=True)
class LinuxFacts:
    """What a Linux says of itself: `root` is the kind of its root filesystem."""

    boot_id: str
    root: str
    release: str
    is_ours: bool
    filesystems: frozenset[str]

    @property
    def lacks(self) -> tuple[str, ...]:
        """Return the filesystems that the agent needs and this kernel has not."""
        return tuple(name for name in _NEEDED if name not in self.filesystems)


class ForeignLinux:
    """A shell on it. Without `trusts_first` its host key is pinned already; `let_in` makes our key one that logs in."""

    def __init__(
        self, target: SshTarget, *, trusts_first: bool = False, let_in: Callable[[SshTarget], None] | None = None
    ) -> None:
        self.target = target
        self._trusts_first = trusts_first
        self._let_in = let_in
        self._is_ready = False

    def read_facts(self) -> LinuxFacts:
        """Ask what it is. Raises `HostError`, `TrustError`."""
        self._get_ready()
        lines = self.run(_FACTS, timeout_s=60).splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        kinds = frozenset(name.removeprefix("filesystem.") for name in found if name.startswith("filesystem."))
        if not found.get("boot_id"):
            raise HostError(f"{self.target.host}: the shell there is no Linux's", details="\n".join(lines)[-300:])
        return LinuxFacts(found["boot_id"], found.get("root", ""), found.get("release", ""), "ours" in found, kinds)

    def refuse_ours(self, facts: LinuxFacts) -> None:
        """Raise `DoorClosed` where an image of qtrade runs: there, the agent has to be asked."""
        if facts.is_ours:
            raise DoorClosed(
                f"{self.target.host} runs an image of qtrade, but its agent was not asked or did not answer",
                resolution="use the in_place or kexec door with the host's pinned key, or a rescue system",
            )

    def wait_until(
        self,
        accept: Callable[[LinuxFacts], bool],
        *,
        within_s: float,
        what: str,
        look: Callable[[], object] = lambda: None,
    ) -> LinuxFacts:
        """Ask again and again until the answer fits. Raises `HostError` when it does not in time, and what `look` does meanwhile."""
        deadline, last = time.monotonic() + within_s, "no answer yet"
        while time.monotonic() < deadline:
            look()
            # What answers first may still be the system that goes down, with keys of its own.
            self._is_ready = False
            try:
                facts = self.read_facts()
            except QtradeError as error:
                last = f"{error.brief} {error.details}".strip()
            else:
                if accept(facts):
                    return facts
                last = f"root on {facts.root}, boot_id {facts.boot_id}, {'our own image' if facts.is_ours else facts.release}"
            time.sleep(_POLL_S)
        raise HostError(
            f"{self.target.host}: {what} did not come within {within_s:.0f} s",
            details=f"last seen: {last}",
            resolution="look at the host's console; the provider may have started the installed system instead",
        )

    def _get_ready(self) -> None:
        if self._is_ready:
            return
        if self._trusts_first:
            write_known_keys(self.target, first_keys(self.target))
        if self._let_in is not None:
            self._let_in(self.target)
        self._is_ready = True

    def upload(self, context: FlashContext, job: SignedJob) -> None:
        """Put the installer's files with the job in them into its memory. The job crosses no other network."""
        with tempfile.TemporaryDirectory(prefix="qtrade-") as folder:
            work = Path(folder)
            tar = work / "installer.tar"
            initrd = context.store.open_blob(context.image.image.installer.digest)
            write_tar(read_initrd(open_tools(context.settings), initrd, work), tar)
            self.run(_UNPACK, stdin=tar.read_bytes(), timeout_s=_TIMEOUT_S)
        place = f"{_ROOT}/{JOB_PATH}"
        write = f"mkdir -p {Path(place).parent} && umask 077 && cat >{place}"
        self.run(write, stdin=json.dumps(job.envelope).encode())

    def start_kexec(self, root_id: str, job: SignedJob, tunnel: Tunnel) -> dict[str, Any]:
        """Load the installer, which comes through the tunnel; the system goes down after the answer. Raises `HostError`."""
        events: list[dict[str, Any]] = []
        code, said = self.stream_agent("kexec", root_id, tunnel, events.append)
        report = next((event for event in events if event.get("event") == "report"), None)
        if report is None:
            raise _failed(self.target.host, events, code, said)
        return check_report(report, job.nonce, self.target.host)

    def stream_agent(
        self, verb: str, root_id: str, tunnel: Tunnel, on_event: Callable[[dict[str, Any]], None]
    ) -> tuple[int, str]:
        """Run a verb of the agent in the installer's files; returns its exit code and what it wrote to stderr."""

        def take(line: str) -> None:
            try:
                on_event(json.loads(line))
            except ValueError:
                return

        words = f"qtrade.job=file:///{JOB_PATH} qtrade.root={root_id}"
        inside = f"cd /usr/lib/qtrade && exec python3 -B -m agent {verb} {words}"
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHON_COLORS=0"
        command = self._as_root(f"env {path} chroot {_ROOT} /bin/sh -c {shlex.quote(inside)}")
        extra = ("-R", tunnel.forward, "-o", "ExitOnForwardFailure=yes")
        return self.target.stream(command, stdin=b"", extra=extra, on_line=take, timeout_s=2 * 3600)

    def reboot(self) -> None:
        """Restart it, soon: the answer must get out first."""
        self.run("sync; (sleep 2; reboot -f || echo b >/proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &")

    def run(self, script: str, *, stdin: bytes | None = None, timeout_s: float = 120) -> str:
        """Run shell text as root and return what it said. Raises `HostError`."""
        return self.target.run(self._as_root(f"sh -c {shlex.quote(script)}"), stdin=stdin, timeout_s=timeout_s).stdout

    def _as_root(self, command: str) -> str:
        return command if self.target.user == "root" else f"sudo -n {command}"


def reach_before(context: FlashContext) -> ForeignLinux:
    """Return the Linux that runs on the host before qtrade, as its `rescue` settings say. Raises `DoorClosed` without a host key."""
    return reach(context, RescueLogin(context.host.rescue.user))


def reach(context: FlashContext, login: RescueLogin) -> ForeignLinux:
    """Return how to log in, with the host key pinned: one that the provider's API told, the manifest's, or the first that is seen.

    Raises `DoorClosed` when there is none and the manifest does not trust the first one.
    """
    settings, host = context.settings, context.host
    identity = host.ssh.identity_file
    if identity is None:
        raise DoorClosed(
            f"host {host.name}: ssh.identity_file is missing", resolution="name the key that logs in there"
        )
    path = known_hosts_path(settings, f"{host.name}.rescue")
    path.parent.mkdir(parents=True, exist_ok=True)
    target = SshTarget(host.name, host.address, host.rescue.port, login.user, identity, path)
    keys = login.host_keys or ((host.rescue.host_key,) if host.rescue.host_key else ())
    if keys:
        write_known_keys(target, keys)
    else:
        refuse_unknown_key(context)
    password = login.password
    let_in = partial(log_in_once, password=password, public_key=read_public_key(context)) if password else None
    return ForeignLinux(target, trusts_first=not keys, let_in=let_in)


def refuse_unknown_key(context: FlashContext) -> None:
    """Raise `DoorClosed` unless the manifest trusts the first host key that is seen."""
    if not context.host.rescue.trust_first_key:
        raise DoorClosed(
            f"host {context.host.name}: nobody has told the SSH host key of the system that is to be logged in to",
            details="whoever is between could be that system, and would be given the job",
            resolution="set rescue.host_key, or rescue.trust_first_key: true if that network is your own",
        )


def read_public_key(context: FlashContext) -> str:
    """Return the public half of the key that deploys log in with. Raises `DoorClosed` when it is not beside the private one."""
    identity = context.host.ssh.identity_file
    path = public_half(identity) if identity else None
    if path is None or not path.is_file():
        raise DoorClosed(
            f"host {context.host.name}: the public key beside ssh.identity_file is missing",
            details=str(path),
            resolution="write it with `ssh-keygen -y`",
        )
    return path.read_text().strip()


def _failed(host: str, events: list[dict[str, Any]], code: int, said: str) -> QtradeError:
    refusal = next((event["error"] for event in events if event.get("event") == "error"), None)
    if refusal:
        return failure(host, refusal)
    return HostError(f"{host}: the agent gave no report (code {code})", details=redact(said[-1000:]))
