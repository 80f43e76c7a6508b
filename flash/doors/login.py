"""The first login to a system that nobody has logged in to before: its host key, and a password where the provider gives one."""

import tempfile
from pathlib import Path

from qtrade import process
from qtrade.errors import HostError
from qtrade.redaction import redact, register_secret
from qtrade.ssh import SshTarget, unreachable

_ADD_KEY = "umask 077; mkdir -p ~/.ssh && cat >>~/.ssh/authorized_keys"
_BANNER = "SSH-2.0"  # ssh-keyscan shows what a server says of itself, also when that has no key of the type


def write_known_keys(target: SshTarget, keys: tuple[str, ...]) -> None:
    """Pin the host keys (`ssh-ed25519 AAAA…`), in place of what was pinned."""
    target.known_hosts.write_text("".join(f"{target.host} {' '.join(key.split()[:2])}\n" for key in keys))


def first_keys(target: SshTarget) -> tuple[str, ...]:
    """Return the host keys that a system shows now: Ed25519 alone where it has one. Raises `HostError` when no SSH server answers in time.

    ssh-keyscan makes a connection for each type that it asks for, and a firewall that counts connections (six in 30 s of one address: ufw's
    `limit`) would refuse the login that follows.
    """
    done = _scan(target, "-t", "ed25519")
    if not (keys := _shown(done)) and _BANNER in done.stdout + done.stderr:
        done = _scan(target)
        keys = _shown(done)
    if not keys:
        raise HostError(
            f"{target.host}: no SSH server answers at {target.address}:{target.port}",
            details=redact(done.stderr.strip()[-500:]),
            resolution="check the address and the port; a host that boots or is busy, or whose firewall refuses who connected six times "
            "in 30 s, answers later: run the same command again",
        )
    return keys


def _scan(target: SshTarget, *options: str) -> process.Completed:
    return process.run(
        ["ssh-keyscan", *options, "-T", "10", "-p", str(target.port), target.address], timeout_s=60, check=False
    )


def _shown(done: process.Completed) -> tuple[str, ...]:
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line and not line.startswith("#")]
    return tuple(line[1] for line in lines if len(line) > 1)


def log_in_once(target: SshTarget, *, password: str, public_key: str) -> None:
    """Log in with a password, to leave our key for all that follows. The password is in no argument. Raises `HostError`."""
    register_secret(password)
    with tempfile.TemporaryDirectory(prefix="qtrade-login-") as folder:
        answer, program = Path(folder, "answer"), Path(folder, "ask")
        for path, text, mode in ((answer, password, 0o600), (program, f"#!/bin/sh\ncat '{answer}'\n", 0o700)):
            path.touch(mode=mode)
            path.write_text(text)
        own = ("-o", "BatchMode=no", "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1")
        first, *rest = target.argv(_ADD_KEY)
        env = {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none"}
        # Of options that are given twice, OpenSSH takes the first.
        done = process.run([first, *own, *rest], env=env, stdin=f"{public_key}\n".encode(), timeout_s=60, check=False)
    if done.returncode == 255:
        raise unreachable(target, done.stderr)
    if done.returncode:
        raise HostError(f"{target.host} did not take our key", details=redact(done.stderr[-500:]))
