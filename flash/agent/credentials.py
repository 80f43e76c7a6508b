"""Secrets: encrypted at rest by systemd-creds, in the credential store of the state partition."""

from pathlib import Path
from typing import Callable, List

from . import durable, units
from .errors import AgentError
from .job import Secret
from .programs import run
from .units import Inputs, UnitAction


def store_secret(
    store: Path, secret: Secret, inputs: Inputs, act: Callable[[UnitAction], None] = units.act
) -> List[str]:
    """Store a declared secret and restart its units; returns their names, none for a value that they have already.

    Raises `AgentError`; then the next time, with the same value too, all units act again.
    """
    if secret.name not in inputs.secrets:
        raise AgentError(
            "secret-undeclared",
            f"the image declares no secret {secret.name}",
            "declare it in the role's config/inputs.yml",
        )
    store.mkdir(mode=0o700, exist_ok=True)
    # There while a stored value has not reached all units.
    pending = store / f".{secret.name}.pending"
    if not _is_stored(store / secret.name, secret):
        durable.write_file(pending, b"", 0o600)
        _write(store, secret)
    elif not pending.exists():
        return []
    actions = list(inputs.secrets[secret.name])
    units.act_on_all(actions, act)
    pending.unlink()
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
