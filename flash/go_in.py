"""Bring a person to a host: a shell or a command, a unit's journal, the serial console."""

import os
import re
import shlex
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Event

from flash.inventory import load_environment, load_host
from flash.manual_access import Purpose, record, require_reason
from flash.ssh import operator_target
from flash.ssh_checks import check_identity
from qtrade import process
from qtrade.errors import HostError, NotFound, UsageError
from qtrade.manifest import Host
from qtrade.settings import Settings
from qtrade.ssh import SshTarget

_UNIT = re.compile(r"[A-Za-z0-9@._:\\-]{1,255}")
_FAILED = 255
_LINES = 200


def open_shell(settings: Settings, host_name: str, command: Sequence[str], *, reason: str) -> int:
    """Open a shell as the operator, or run `command`, on this terminal; returns its exit code.

    Raises `UsageError` without a reason in production, `HostError` when ssh itself fails.
    """
    host = _enter(settings, host_name, reason)
    text = shlex.join(command)
    return _go(settings, host, "ssh", text, reason, is_shell=not command)


def follow_logs(settings: Settings, host_name: str, unit: str, *, follow: bool, lines: int, reason: str) -> int:
    """Show the journal of a unit. Raises as `open_shell`."""
    if not _UNIT.fullmatch(unit):
        raise UsageError(f"{unit!r:.80} is no name of a unit", resolution="write it as `qtrade hosts show` does")
    host = _enter(settings, host_name, reason)
    command = ["journalctl", "--no-pager", f"--unit={unit}", f"--lines={lines}", *(["--follow"] if follow else [])]
    return _go(settings, host, "logs", shlex.join(command), reason, is_shell=False)


def watch_console(settings: Settings, host_name: str, *, reason: str) -> int:
    """Show the serial console, where the host's manifest says where it is. Raises `NotFound`, `UsageError`."""
    host = _enter(settings, host_name, reason)
    match host.console:
        case None:
            raise NotFound(
                f"host {host.name}: the manifest names no console",
                resolution="write `console`: a file, or the command that prints it (manifests/hosts/README.md)",
            )
        case Path() as path:
            argv = ["tail", f"--lines={_LINES}", "--follow=name", "--retry", str(path)]
        case words:
            argv = list(words)
    # The command may hold a password of the BMC: what it is stands in the manifest.
    code = record(settings, host, Purpose("console", reason=reason), partial(process.attach, argv))
    return code if code >= 0 else 128 - code


def _enter(settings: Settings, host_name: str, reason: str) -> Host:
    host = load_host(settings, host_name)
    require_reason(load_environment(settings, host), reason)
    return host


def _go(settings: Settings, host: Host, how: str, command: str, reason: str, *, is_shell: bool) -> int:
    target = operator_target(settings, host)
    check_identity(f"host {host.name}: the operator's key", target.identity_file)
    purpose = Purpose(how, target.user, reason, command)
    code = record(settings, host, purpose, partial(_attach, target, command, is_shell=is_shell))
    if code < 0:  # ended by a signal, such as Ctrl-C: said as shells do
        return 128 - code
    if code == _FAILED:
        raise HostError(
            f"{host.name}: ssh ended with code {code}",
            resolution=f"`qtrade hosts test --host {host.name}` says which part of the way in fails, and "
            f"`qtrade hosts keys --host {host.name}` whether its key changed",
        )
    return code


def _attach(target: SshTarget, command: str, *, is_shell: bool) -> int:
    """Run ssh on this terminal: people may be asked for the passphrase of their own key, and nothing else."""
    agent = {name: os.environ[name] for name in ("SSH_AUTH_SOCK",) if name in os.environ}
    argv = ["ssh", "-o", "BatchMode=no", *target.argv(command)[1:]]
    interrupted = Event()
    code = process.attach([*argv[:-1], "-t"] if is_shell else argv, env=agent, on_interrupt=interrupted.set)
    # ssh says the same of Ctrl-C as of a host that it cannot reach.
    return -signal.SIGINT if code == _FAILED and interrupted.is_set() else code
