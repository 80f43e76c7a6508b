"""Secrets: encrypted at rest by systemd-creds, in the credential store of the state partition."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

from . import durable, units
from .dsse import digest
from .errors import AgentError
from .job import Secret
from .programs import run
from .units import Inputs, UnitAction


@dataclass(frozen=True)
class Stored:
    """Secrets that are stored and that not all of their units have yet: their names, and what the units are to do."""

    names: Tuple[str, ...]
    actions: Tuple[UnitAction, ...]


def store_secrets(
    store: Path, secrets: Sequence[Secret], inputs: Inputs, act: Callable[[UnitAction], None] = units.act
) -> List[str]:
    """Store declared secrets, then act once on each unit that reads one of them; returns the names of these units.

    A value that its units have already acts on none. Raises as `put`; when units did not take a value, they all act again the next
    time, with the same value too.
    """
    stored = put(store, secrets, inputs)
    units.act_on_all(stored.actions, act)
    hand_over(store, stored)
    return [action.name for action in stored.actions]


def put(store: Path, secrets: Sequence[Secret], inputs: Inputs) -> Stored:
    """Store secrets that are not stored yet. Raises `AgentError`, before anything is stored, for one that the image does not declare."""
    unknown = sorted(secret.name for secret in secrets if secret.name not in inputs.secrets)
    if unknown:
        raise AgentError(
            "secret-undeclared",
            f"the image declares no secret {', '.join(unknown)}",
            "declare it in the role's config/inputs.yml",
        )
    store.mkdir(mode=0o700, exist_ok=True)
    # There while a stored value has not reached all units.
    pending = {secret.name: _pending(store, secret.name) for secret in secrets}
    for secret in secrets:
        if not _is_stored(store / secret.name, secret):
            durable.write_file(pending[secret.name], b"", 0o600)
            _write(store, secret)
    fresh = tuple(name for name, path in pending.items() if path.exists())
    return Stored(fresh, tuple(units.merge_actions(action for name in fresh for action in inputs.secrets[name])))


def hand_over(store: Path, stored: Stored) -> None:
    """Note that all units have what was stored."""
    for name in stored.names:
        _pending(store, name).unlink()
    if stored.names:
        durable.sync_folder(store)


def stamps(store: Path) -> Dict[str, str]:
    """Return a stamp of each secret that its units have: it changes with each write, and says nothing of the value.

    It is of the encrypted bytes, which are never twice the same.
    """
    names = [path.name for path in sorted(store.glob("*")) if path.is_file() and not path.name.startswith(".")]
    return {name: digest((store / name).read_bytes())[:32] for name in names if not _pending(store, name).exists()}


def _pending(store: Path, name: str) -> Path:
    return store / f".{name}.pending"


def _write(store: Path, secret: Secret) -> None:
    fresh = store / f".{secret.name}.new"
    fresh.unlink(missing_ok=True)
    # The value goes by stdin: never in an argument, the environment or a plain file.
    run("systemd-creds", "encrypt", f"--name={secret.name}", "-", str(fresh), stdin=secret.value)
    fresh.chmod(0o600)
    fresh.replace(store / secret.name)
    durable.sync_folder(store)


def _is_stored(path: Path, secret: Secret) -> bool:
    if not path.exists():
        return False
    try:
        return run("systemd-creds", "decrypt", f"--name={secret.name}", str(path), "-").encode() == secret.value
    except (AgentError, UnicodeError):
        # Sealed to another machine, or damaged: it is written again.
        return False
