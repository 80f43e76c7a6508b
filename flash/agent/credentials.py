"""Secrets: encrypted at rest by systemd-creds, in the credential store of the state partition."""

import os
import shutil
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
    """What has changed in the store and not all units have yet: the names, and what the units are to do."""

    names: Tuple[str, ...]
    actions: Tuple[UnitAction, ...]


def store_secrets(
    store: Path,
    secrets: Sequence[Secret],
    inputs: Inputs,
    act: Callable[[UnitAction], None] = units.act,
    *,
    forget: Sequence[str] = (),
) -> List[str]:
    """Store declared secrets, then act once on each unit that reads one of them; returns the names of these units.

    A value that its units have already acts on none. Raises as `put`; when units did not take a value, they all act again the next
    time, with the same value too.
    """
    stored = put(store, secrets, inputs, forget=forget)
    units.act_on_all(stored.actions, act)
    hand_over(store, stored)
    return [action.name for action in stored.actions]


def put(store: Path, secrets: Sequence[Secret], inputs: Inputs, *, forget: Sequence[str] = ()) -> Stored:
    """Store secrets that are not stored yet, and drop those to `forget`: all of them in one step, or none.

    Raises `AgentError`, before anything is stored, for one that the image does not declare.
    """
    unknown = sorted({*(secret.name for secret in secrets), *forget} - set(inputs.secrets))
    if unknown:
        raise AgentError(
            "secret-undeclared",
            f"the image declares no secret {', '.join(unknown)}",
            "declare it in the role's config/inputs.yml",
        )
    store.mkdir(mode=0o700, exist_ok=True)
    fresh = [secret for secret in secrets if not _is_stored(store / secret.name, secret)]
    gone = [name for name in forget if (store / name).exists()]
    if fresh or gone:
        _replace_store(store, fresh, gone)
    names = tuple(name for name in (*(one.name for one in secrets), *forget) if _pending(store, name).exists())
    return Stored(names, tuple(units.merge_actions(action for name in names for action in inputs.secrets[name])))


def _replace_store(store: Path, fresh: Sequence[Secret], gone: Sequence[str]) -> None:
    """Make the store anew beside the old one, and let them change places: a certificate never lies beside the key of another."""
    new = store.with_name(f"{store.name}.new")
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(mode=0o700)
    changed = {*(secret.name for secret in fresh), *gone}
    for path in store.iterdir():
        if path.name not in changed:
            os.link(path, new / path.name)
    # There while a change has not reached all units.
    for name in changed:
        _pending(new, name).touch(mode=0o600)
    for secret in fresh:
        _write(new, secret)
    durable.sync_folder(new)
    durable.exchange(new, store)
    shutil.rmtree(new)


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


def _write(folder: Path, secret: Secret) -> None:
    path = folder / secret.name
    # The value goes by stdin: never in an argument, the environment or a plain file.
    run("systemd-creds", "encrypt", f"--name={secret.name}", "-", str(path), stdin=secret.value)
    path.chmod(0o600)
    durable.flush_file(path)


def _is_stored(path: Path, secret: Secret) -> bool:
    if not path.exists():
        return False
    try:
        return run("systemd-creds", "decrypt", f"--name={secret.name}", str(path), "-").encode() == secret.value
    except (AgentError, UnicodeError):
        # Sealed to another machine, or damaged: it is written again.
        return False
