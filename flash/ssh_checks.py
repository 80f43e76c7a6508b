"""What is looked at before anybody logs in to a host for a deploy: the pinned key, our own key, its last day, who it lets in."""

import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flash.agent_link import AgentLink
from flash.host_keys import look_at_keys, read_pinned
from flash.inventory import load_environment
from flash.ssh import operator_target, target_for
from qtrade import process
from qtrade.errors import BadInput, HostError, QtradeError, Refused
from qtrade.manifest import Environment, Host
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.ssh import public_half

# The value of role bare_metal: account -> lines of authorized_keys, which may begin with options, such as expiry-time="20270131".
_KEYS = "bare_metal_ssh_keys"
_EXPIRY = re.compile(r'expiry-time="(\d{8})(\d{4})?(\d{2})?Z?"')
_WARN_S = 14 * 86400


@dataclass(frozen=True)
class SshCheck:
    """One check: what was looked at, and what is wrong with it (None: nothing)."""

    name: str
    told: str
    error: QtradeError | None = None


def check_login(settings: Settings, host: Host, reporter: Reporter) -> None:
    """Look at what a deploy logs in with, before it does; nothing is asked of the host.

    Raises `HostError` without a pinned key, `BadInput` and `Refused` for a key of ours that cannot be used or has ended.
    """
    target = target_for(settings, host)
    if not read_pinned(settings, host.name):
        raise HostError(
            f"{host.name} has no pinned SSH host key",
            resolution=f"flash it, or pin its key: `qtrade hosts keys --host {host.name} --accept`",
        )
    check_identity(f"host {host.name}: ssh.identity_file", target.identity_file)
    environment = load_environment(settings, host)
    line = _line_for(environment, host, target.user, target.identity_file)
    left = _left_s(line) if line else None
    if left is not None and left <= 0:
        raise Refused(
            f"host {host.name}: the key of {target.user} has ended",
            resolution=f"write a new key into {_KEYS}, and push with one that lives",
        )
    if left is not None and left < _WARN_S:
        reporter.say(f"warning: the key of {target.user} at {host.name} ends in {left / 86400:.0f} days; rotate it")


def check_identity(where: str, path: Path) -> None:
    """See that a private key is there and nobody else's to read: OpenSSH would pass it over. Raises `BadInput`, `Refused`."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise BadInput(
            f"{where}: {path} cannot be read: {error.strerror}", resolution="name the private key to log in with"
        ) from None
    if mode & 0o077:
        raise Refused(f"{where}: others may read {path} (mode {mode:04o})", resolution=f"chmod 600 {path}")


def check_keeps_access(environment: Environment, host: Host, user: str, identity: Path) -> None:
    """Raise `Refused` when the config would take our own key off the host: a push would be the last one."""
    wanted = _config(environment, host).get(_KEYS)
    if isinstance(wanted, dict) and wanted and _line_for(environment, host, user, identity) is None:
        raise Refused(
            f"host {host.name}: {_KEYS} of {user} does not have our own key ({identity})",
            resolution="add its public key there; a push would lock us out, and be taken back",
        )


def try_parts(settings: Settings, host: Host, reporter: Reporter) -> Iterator[SshCheck]:
    """Look at every part of the way in, each by itself: keys, logins, agent."""

    def attempt(name: str, told: str, look: Callable[[], object]) -> SshCheck:
        try:
            look()
        except QtradeError as error:
            return SshCheck(name, told, error)
        return SshCheck(name, told)

    yield attempt("own key", str(host.ssh.identity_file), lambda: check_login(settings, host, reporter))
    yield attempt(
        "host key",
        f"{host.address}:{host.ssh.port}",
        lambda: look_at_keys(settings, host).require_same(),
    )
    yield attempt("agent", f"as {host.ssh.user}", lambda: AgentLink(target_for(settings, host)).status(timeout_s=30))
    yield attempt(
        "operator", f"as {host.ssh.operator}", lambda: operator_target(settings, host).run("true", timeout_s=30)
    )


def _config(environment: Environment, host: Host) -> dict[str, object]:
    return {**environment.config, **environment.roles.get(host.role, {}), **host.config}


def _line_for(environment: Environment, host: Host, user: str, identity: Path) -> str | None:
    """Return the line of authorized_keys that lets our key in, as the manifests have it; None where they do not tell."""
    accounts = _config(environment, host).get(_KEYS)
    lines = accounts.get(user, ()) if isinstance(accounts, dict) else ()
    done = process.run(["ssh-keygen", "-y", "-P", "", "-f", identity], check=False)
    public = public_half(identity)
    text = done.stdout if done.returncode == 0 else public.read_text() if public.is_file() else ""
    words = text.split()
    return next((str(line) for line in lines if len(words) > 1 and words[1] in str(line).split()), None)


def _left_s(line: str) -> float | None:
    """Return how long the key is good; None where its line does not say. OpenSSH reads the time in the host's zone, UTC here."""
    found = _EXPIRY.search(line)
    if found is None:
        return None
    text = f"{found[1]}{found[2] or '0000'}{found[3] or '00'}"
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp() - time.time()
