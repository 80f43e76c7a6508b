"""SSH host keys: which one is pinned, which one the host offers now, and how a person lets another one be pinned."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from flash.ssh import known_hosts_path, pin_host_key, pin_of_manifest
from qtrade import process
from qtrade.errors import HostError, TrustError
from qtrade.manifest import Host
from qtrade.settings import Settings

_SCAN_S = 10
# What a host shows of itself where nobody can stand in between: at its console.
SHOW = "ssh-keygen -lf /run/qtrade/state/host/ssh_host_ed25519_key.pub"


@dataclass(frozen=True)
class HostKeys:
    """The keys (`ssh-ed25519 AAAA…`), empty where there is none; hosts of ours have one, an Ed25519 key."""

    host: str
    pinned: str
    offered: str

    @property
    def are_same(self) -> bool:
        """Whether the host offers the pinned key."""
        return bool(self.pinned) and self.pinned == self.offered

    def require_same(self) -> None:
        """Raise `TrustError`, with what to do, unless the host offers the pinned key."""
        if self.are_same:
            return
        said = "offers another SSH host key than the pinned one" if self.pinned else "has no pinned SSH host key yet"
        raise TrustError(
            f"{self.host} {said}",
            details=f"pinned: {fingerprint(self.pinned) or 'none'}\noffered: {fingerprint(self.offered)}",
            resolution=f"find out why. Run `{SHOW}` at the host's console, and only if it shows the offered one: "
            f"`qtrade hosts keys --host {self.host} --accept`",
        )


def read_pinned(settings: Settings, host: str) -> str:
    """Return the pinned key, empty where there is none."""
    path = known_hosts_path(settings, host)
    words = path.read_text().split() if path.is_file() else []
    return " ".join(words[1:3])


def look_at_keys(settings: Settings, host: Host) -> HostKeys:
    """Ask the host which key it has, without logging in. Raises `HostError` when it does not answer."""
    pin_of_manifest(settings, host)
    scan = ["ssh-keyscan", "-t", "ed25519", "-T", str(_SCAN_S), "-p", str(host.ssh.port), host.address]
    done = process.run(scan, timeout_s=_SCAN_S * 3, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if not line.startswith("#")]
    offered = [" ".join(words[1:3]) for words in lines if len(words) >= 3]
    if not offered:
        raise HostError(
            f"{host.name} offers no Ed25519 host key at {host.address}:{host.ssh.port}",
            details=done.stderr.strip()[-500:],
            resolution="look at its console and at its BMC",
        )
    return HostKeys(host.name, read_pinned(settings, host.name), offered[0])


def accept(settings: Settings, keys: HostKeys, typed: str) -> None:
    """Pin the offered key if `typed` is its fingerprint, as a person read it at the host itself. Raises `TrustError`."""
    if typed.strip() != fingerprint(keys.offered):
        raise TrustError(
            f"that is not the fingerprint of the key that {keys.host} offers; the pinned key stays",
            details=f"pinned: {fingerprint(keys.pinned) or 'none'}",
            resolution="if the host's console shows what you typed, somebody stands in between: do not go on",
        )
    pin_host_key(settings, keys.host, keys.offered)


def fingerprint(key: str) -> str:
    """Return the fingerprint of a public key as OpenSSH writes it (`SHA256:…`), empty for none."""
    words = key.split()
    try:
        blob = base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except binascii.Error:
        return ""
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}" if blob else ""
