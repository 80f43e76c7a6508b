"""Secrets: encrypted at rest by systemd-creds, in the credential store of the state partition.

Those that come with a config go with it: until it is settled, the store as it was stays beside the new one (`credstore.before`), with the
image and the generation whose settling ends it. `undo` brings it back, or the initramfs does at the next boot.
"""

import contextlib
import os
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Set, Tuple

from . import durable, units
from .dsse import digest
from .errors import AgentError
from .job import Secret
from .programs import run
from .units import Inputs, UnitAction

_SETTLES = ".settles"


class Stored(NamedTuple):
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


def check_declared(secrets: Sequence[Secret], inputs: Inputs, *, forget: Sequence[str] = ()) -> None:
    """Raise `AgentError` for a secret that the image does not declare."""
    unknown = sorted({*(secret.name for secret in secrets), *forget} - set(inputs.secrets))
    if unknown:
        raise AgentError(
            "secret-undeclared",
            f"the image declares no secret {', '.join(unknown)}",
            "declare it in the role's config/inputs.yml",
        )


def put(store: Path, secrets: Sequence[Secret], inputs: Inputs, *, forget: Sequence[str] = ()) -> Stored:
    """Store secrets that are not stored yet, and drop those to `forget`: all of them in one step, or none.

    Raises `AgentError`, before anything is stored, for one that the image does not declare.
    """
    check_declared(secrets, inputs, forget=forget)
    store.mkdir(mode=0o700, exist_ok=True)
    fresh = [secret for secret in secrets if not _is_stored(store / secret.name, secret)]
    gone = [name for name in forget if (store / name).exists()]
    if fresh or gone:
        _replace_store(store, fresh, gone)
    names = tuple(name for name in (*(one.name for one in secrets), *forget) if _pending(store, name).exists())
    return Stored(names, tuple(units.merge_actions(action for name in names for action in inputs.secrets[name])))


def _replace_store(store: Path, fresh: Sequence[Secret], gone: Sequence[str]) -> None:
    """Make the store anew beside the old one, and let them change places: a certificate never lies beside the key of another."""
    changed = {*(secret.name for secret in fresh), *gone}
    new = _copy(store, {*changed, _SETTLES})
    # There while a change has not reached all units.
    for name in changed:
        _pending(new, name).touch(mode=0o600)
    for secret in fresh:
        _write(new, secret)
    durable.sync_folder(new)
    durable.exchange(new, store)
    durable.remove_all([new])


def _copy(store: Path, without: Set[str]) -> Path:
    """Return a folder beside the store with all that is in it but some names: the files themselves, under second names."""
    new = store.with_name(f"{store.name}.new")
    if new.exists():
        durable.remove_all([new])
    new.mkdir(mode=0o700)
    for path in store.iterdir():
        if path.name not in without:
            os.link(path, new / path.name)
    return new


def keep(store: Path, image_id: str, generation: str) -> None:
    """Keep the store as it is until the generation is settled for the image. What is kept since an earlier change stays that."""
    before, line = _before(store), f"{image_id} {generation}\n".encode()
    if before.exists():
        durable.write_file(before / _SETTLES, line, 0o600)
        return
    store.mkdir(mode=0o700, exist_ok=True)
    new = _copy(store, {_SETTLES})
    durable.put_file(new / _SETTLES, line, 0o600)
    durable.sync_folder(new)
    new.rename(before)
    durable.sync_folder(before.parent)


def is_kept(store: Path) -> bool:
    """Say whether the store from before a change is still there, since that was not settled."""
    return _before(store).exists()


def settle(store: Path) -> None:
    """Keep the store from before no longer."""
    if is_kept(store):
        # Under another name first: a half removed one must not be brought back.
        gone = store.with_name(f"{store.name}.gone")
        if gone.exists():
            durable.remove_all([gone])
        _before(store).rename(gone)
        durable.remove_all([gone])


def undo(store: Path, inputs: Inputs) -> List[UnitAction]:
    """Bring the store from before back, if one is kept; returns what units that read a secret that changes by it are to do."""
    before = _before(store)
    if not is_kept(store):
        return []
    names = sorted({path.name for folder in (before, store) for path in folder.iterdir()} & set(inputs.secrets))
    changed = [name for name in names if _bytes(before / name) != _bytes(store / name)]
    durable.exchange(before, store)
    # What is beside the store now has no such file, so that no boot takes it for something to go back to.
    with contextlib.suppress(FileNotFoundError):
        (store / _SETTLES).unlink()
    settle(store)
    return units.merge_actions(action for name in changed for action in inputs.secrets[name])


def _before(store: Path) -> Path:
    return store.with_name(f"{store.name}.before")


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


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
