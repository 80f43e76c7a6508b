"""Secrets: encrypted at rest by systemd-creds, in the credential store of the state partition."""

from pathlib import Path
from typing import Callable, List, Sequence

from . import durable, units
from .errors import AgentError
from .job import Secret
from .programs import run
from .units import Inputs, UnitAction


def store_secrets(
    store: Path, secrets: Sequence[Secret], inputs: Inputs, act: Callable[[UnitAction], None] = units.act
) -> List[str]:
    """Store declared secrets, then act once on each unit that reads one of them; returns the names of these units.

    A value that its units have already acts on none. Raises `AgentError`, before anything is stored for a secret that the image does
    not declare; when units did not take a value, they all act again the next time, with the same value too.
    """
    unknown = sorted(secret.name for secret in secrets if secret.name not in inputs.secrets)
    if unknown:
        raise AgentError(
            "secret-undeclared",
            f"the image declares no secret {', '.join(unknown)}",
            "declare it in the role's config/inputs.yml",
        )
    store.mkdir(mode=0o700, exist_ok=True)
    # There while a stored value has not reached all units.
    pending = {secret.name: store / f".{secret.name}.pending" for secret in secrets}
    for secret in secrets:
        if not _is_stored(store / secret.name, secret):
            durable.write_file(pending[secret.name], b"", 0o600)
            _write(store, secret)
    fresh = [name for name, path in pending.items() if path.exists()]
    if not fresh:
        return []
    actions = units.merge_actions(action for name in fresh for action in inputs.secrets[name])
    units.act_on_all(actions, act)
    for name in fresh:
        pending[name].unlink()
    durable.sync_folder(store)
    return [action.name for action in actions]


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
