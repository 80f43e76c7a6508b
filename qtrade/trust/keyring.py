"""The keys of a state directory: made, rotated and revoked, each change in a new trust set that the root signs."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtrade.errors import BadInput, ConflictError, NotFound, Refused, TrustError, UsageError, choose_from
from qtrade.settings import Settings
from qtrade.signing import PublicKey, SigningKey, ensure_key, load_key, make_key, parse_public_pem, read_key
from qtrade.trust.trust_set import ROLES, Role, TrustSet, open_trust, sign_trust, signing_root

DAY_S = 86400
EXPIRES_DAYS = 365
_LAB_EXPIRES_DAYS = 3650
_SET = "trust.json"
_PINNED = "root.pem"


@dataclass(frozen=True)
class Keyring:
    """The trust set of a state directory, verified, with the envelope that goes to hosts and the private keys that are here."""

    folder: Path
    envelope: dict[str, Any]
    trust: TrustSet

    @property
    def root_id(self) -> str:
        """Return the id of the root that signed the set: what an installer pins."""
        return signing_root(self.envelope, self.trust)

    def signer(self, role: Role) -> SigningKey:
        """Return the private key of a role. Raises `NotFound` naming its file, `TrustError` for a key that is not of the set."""
        self.settle(role)
        key = load_key(self.folder, role)
        if key.public.keyid not in self.trust.by_role()[role]:
            raise TrustError(
                f"{self.folder / f'{role}.key'} is not the {role} key of the trust set",
                details=f"the file holds {key.public.keyid[:16]}; the set names {_names(self.trust.by_role()[role])}",
                resolution="bring the current key there, or make another with `qtrade keys rotate`",
            )
        return key

    def here(self) -> tuple[str, ...]:
        """Return the names of the private keys that lie in the folder."""
        return tuple(name for name in ("root", *ROLES) if (self.folder / f"{name}.key").is_file())

    def private_ids(self) -> frozenset[str]:
        """Return the ids of the keys whose private halves lie in the folder; of a role several operators may have one."""
        return frozenset(read_key(self.folder / f"{name}.key", name).public.keyid for name in self.here())

    def settle(self, role: Role) -> None:
        """Finish a rotation that was cut off between the new set and the new key's name."""
        fresh = self.folder / f"{role}.key.new"
        if fresh.is_file() and read_key(fresh, role).public.keyid in self.trust.by_role()[role]:
            fresh.rename(self.folder / f"{role}.key")


def load_keyring(settings: Settings) -> Keyring:
    """Return the keyring. Raises `NotFound` when there is none, `TrustError` when no pinned root signed the set."""
    folder = settings.keys_dir
    try:
        envelope = json.loads((folder / _SET).read_bytes())
        pinned = _read_pinned(folder)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no trust set in {folder}",
            details=f"{error.filename} is missing",
            resolution="run `qtrade keys init`",
        ) from error
    except ValueError as error:
        raise TrustError(
            f"the trust set in {folder} is damaged",
            details=f"  {folder / _SET}: {error}",
            resolution="bring it back from a backup, or from another machine: `qtrade keys import`",
        ) from error
    return Keyring(folder, envelope, open_trust(envelope, pinned))


def ensure_keyring(settings: Settings) -> Keyring:
    """Return the keyring, made first if there is none: a lab's, which is good for development only."""
    if not (settings.keys_dir / _SET).is_file():
        with _alone(settings.keys_dir):
            if not (settings.keys_dir / _SET).is_file():
                root = ensure_key(settings.keys_dir, "root")
                _first_set(settings.keys_dir, (root,), lab=True, expires_days=_LAB_EXPIRES_DAYS)
    return load_keyring(settings)


def init_keys(
    settings: Settings,
    *,
    root_key: Path | None = None,
    spare_root: Path | None = None,
    expires_days: int = EXPIRES_DAYS,
) -> Keyring:
    """Make root, build, promote and job key, and the first trust set. Raises `ConflictError` when there is a set already.

    `root_key` and `spare_root` are files, best on media that are put away after this; made if missing, used if there.
    Without `root_key` the root lies in the keys folder.
    """
    folder = settings.keys_dir
    with _alone(folder):
        if (folder / _SET).exists():
            kind = "the lab's" if load_keyring(settings).trust.lab else "a"
            raise ConflictError(
                f"{folder} holds {kind} trust set already",
                resolution="set QTRADE_STATE_DIR to another folder; `qtrade keys rotate` changes keys of this one",
            )
        roots = [_root_at(path) for path in (root_key or folder / "root.key", spare_root) if path is not None]
        _first_set(folder, tuple(roots), lab=False, expires_days=expires_days)
    return load_keyring(settings)


def rotate_key(
    settings: Settings, role: Role, *, root_key: Path | None = None, expires_days: int = EXPIRES_DAYS
) -> Keyring:
    """Give `role` a new key in the place of the one that is here. What the old one signed still holds.

    Raises `NotFound` for a missing root key, `Refused` where several operators have a key of the role, and none of these is here.
    """
    with _change(settings, root_key) as (keyring, root):
        old = _key_to_rotate(keyring, role)
        fresh = _fresh_key(keyring, role)
        _write_set(keyring.folder, _replaced(keyring.trust, role, old, fresh.public, expires_days), root)
    _settled(settings, role)
    return load_keyring(settings)


def rotate_root(
    settings: Settings, new_root: Path, *, root_key: Path | None = None, expires_days: int = EXPIRES_DAYS
) -> Keyring:
    """Put the root in the file `new_root` (made if missing) in the place of the one that signs now; both sign the set."""
    with _change(settings, root_key) as (keyring, root):
        follower = _root_at(new_root)
        roots = {keyid: pem for keyid, pem in keyring.trust.root.items() if keyid != root.public.keyid}
        fields = {"root": {**roots, follower.public.keyid: follower.public.pem}}
        changed = _next(keyring.trust, expires_days, fields)
        _write_set(keyring.folder, changed, root, follower)
    return load_keyring(settings)


def renew_trust(
    settings: Settings,
    *,
    root_key: Path | None = None,
    expires_days: int = EXPIRES_DAYS,
    promotion_keys: int | None = None,
) -> Keyring:
    """Sign the same keys again with a later expiry; with `promotion_keys`, production's hosts ask for so many promote keys from now on."""
    with _change(settings, root_key) as (keyring, root):
        fields = {} if promotion_keys is None else {"promotion_keys": promotion_keys}
        _write_set(keyring.folder, _next(keyring.trust, expires_days, fields), root)
    return load_keyring(settings)


def revoke_key(
    settings: Settings, keyid: str, *, root_key: Path | None = None, expires_days: int = EXPIRES_DAYS
) -> Keyring:
    """Revoke the key whose id begins with `keyid` (8 digits or more). A key that signs now gets a follower.

    Raises `NotFound` for an unknown key, `Refused` for the only root.
    """
    with _change(settings, root_key) as (keyring, root):
        trust = keyring.trust
        found, pem, role = _find_key(trust, keyid)
        if found == root.public.keyid:
            raise Refused(
                "a root cannot revoke itself", resolution="sign with the other root, or run `qtrade keys rotate root`"
            )
        changed = trust
        if role is not None and not _is_of_another(keyring, role, found):
            changed = _replaced(trust, role, found, _fresh_key(keyring, role).public, expires_days)
        _write_set(keyring.folder, _without(changed, found, pem, trust.sequence + 1, expires_days), root)
    if role is not None:
        _settled(settings, role)
    return load_keyring(settings)


def import_trust(settings: Settings, source: Path) -> Keyring:
    """Take the trust set that another machine wrote. Raises `TrustError` unless a pinned root signed it and it is newer."""
    folder = settings.keys_dir
    try:
        envelope = json.loads(source.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{source} holds no trust set", details=str(error), resolution="name a trust.json") from error
    with _alone(folder):
        held = load_keyring(settings)
        trust = open_trust(envelope, held.trust.roots())
        if trust.sequence < held.trust.sequence:
            raise TrustError(
                f"{source} is older than the trust set here: {trust.sequence} < {held.trust.sequence}",
                resolution="bring the newer one to that machine instead",
            )
        _write_files(folder, envelope, trust)
    return load_keyring(settings)


def parse_role(name: str) -> Role:
    """Return the role of that name. Raises `UsageError`."""
    for role in ROLES:
        if role == name:
            return role
    raise UsageError(f"there is no role {name}", resolution=choose_from(name, (*ROLES, "root")))


def _first_set(folder: Path, roots: tuple[SigningKey, ...], *, lab: bool, expires_days: int) -> None:
    now = int(time.time())
    keys = {role: ensure_key(folder, role).public for role in ROLES}
    trust = TrustSet.model_validate(
        {
            "sequence": 1,
            "issued_at": now,
            "expires": now + expires_days * DAY_S,
            "lab": lab,
            "root": {root.public.keyid: root.public.pem for root in roots},
            **{role: {key.keyid: key.pem} for role, key in keys.items()},
        }
    )
    _write_set(folder, trust, roots[0])


def _next(trust: TrustSet, expires_days: int, fields: dict[str, Any]) -> TrustSet:
    now = int(time.time())
    times = {"sequence": trust.sequence + 1, "issued_at": now, "expires": now + expires_days * DAY_S}
    return TrustSet.model_validate({**trust.model_dump(), **times, **fields})


def _replaced(trust: TrustSet, role: Role, old: str, key: PublicKey, expires_days: int) -> TrustSet:
    """Return the next set, in which `key` signs for `role`, and `old`, which did, is retired; other operators' keys stay."""
    keys, retired = dict(trust.by_role()[role]), trust.retired.model_dump()
    if old in keys:
        retired[role][old] = keys.pop(old)
    return _next(trust, expires_days, {role: {**keys, key.keyid: key.pem}, "retired": retired})


def _key_to_rotate(keyring: Keyring, role: Role) -> str:
    """Return the id of the key of `role` that is here, or of the only one. Raises `Refused` where it is not known which one is meant."""
    keyring.settle(role)
    keys, path = keyring.trust.by_role()[role], keyring.folder / f"{role}.key"
    own = read_key(path, role).public.keyid if path.is_file() else ""
    if own in keys or len(keys) < 2:
        return own if own in keys else next(iter(keys), "")
    raise Refused(
        f"{len(keys)} operators have a {role} key, and none of these is here",
        details=_names(keys),
        resolution="rotate where the key is; a key that is lost is revoked: `qtrade keys revoke ID`",
    )


def _is_of_another(keyring: Keyring, role: Role, keyid: str) -> bool:
    """Whether a key is one of several of its role and not the one that is here: nobody here can make its owner a new one."""
    keyring.settle(role)
    path = keyring.folder / f"{role}.key"
    own = read_key(path, role).public.keyid if path.is_file() else ""
    return len(keyring.trust.by_role()[role]) > 1 and own != keyid


def _without(trust: TrustSet, keyid: str, pem: str, sequence: int, expires_days: int) -> TrustSet:
    """Return the set with one key revoked, wherever it stands."""
    fields = trust.model_dump()
    for place in (fields["root"], *(fields[role] for role in ROLES), *fields["retired"].values()):
        place.pop(keyid, None)
    fields["revoked"][keyid] = pem
    return _next(trust, expires_days, fields).model_copy(update={"sequence": sequence})


def _find_key(trust: TrustSet, prefix: str) -> tuple[str, str, Role | None]:
    """Return id, PEM and, for a key that signs now, role. Raises `NotFound`, `BadInput`."""
    places: list[tuple[Role | None, dict[str, str]]] = [*trust.by_role().items()]
    places += [(None, trust.root), *((None, keys) for keys in trust.retired.model_dump().values())]
    found = [(keyid, pem, role) for role, keys in places for keyid, pem in keys.items() if keyid.startswith(prefix)]
    if len(prefix) < 8 or len(found) > 1:
        raise BadInput(f"{prefix} names no single key", resolution="give more digits; `qtrade keys show` lists them")
    if not found:
        raise NotFound(
            f"the trust set has no key {prefix}",
            details="a revoked key stays revoked",
            resolution="see `qtrade keys show`",
        )
    return found[0]


@dataclass
class TrustChange:
    """The trust set as it is, and the fields that the next one has in place of it."""

    trust: TrustSet
    fields: dict[str, Any]


@contextmanager
def change_trust(settings: Settings, root_key: Path | None, expires_days: int) -> Iterator[TrustChange]:
    """Let the block say what changes in the trust set, and sign it at the end. Raises `NotFound`, `TrustError` as for every change."""
    with _change(settings, root_key) as (keyring, root):
        change = TrustChange(keyring.trust, {})
        yield change
        _write_set(keyring.folder, _next(keyring.trust, expires_days, change.fields), root)


@contextmanager
def _change(settings: Settings, root_key: Path | None) -> Iterator[tuple[Keyring, SigningKey]]:
    """Give the keyring and its root for a change, alone. Raises `NotFound`, `TrustError`."""
    with _alone(settings.keys_dir):
        keyring = load_keyring(settings)
        path = root_key or keyring.folder / "root.key"
        if not path.is_file():
            raise NotFound(
                f"the root key is not at {path}",
                details=f"needed is the private key {_names(keyring.trust.root)}",
                resolution="bring the medium that it is on, and name its file with --root-key",
            )
        root = read_key(path, "root")
        if root.public.keyid not in keyring.trust.root:
            raise TrustError(
                f"{path} is not a root of this trust set",
                details=f"the file holds {root.public.keyid[:16]}; the set names {_names(keyring.trust.root)}",
                resolution="name another file with --root-key",
            )
        yield keyring, root


def _root_at(path: Path) -> SigningKey:
    if path.exists():
        return read_key(path, "root")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return make_key(path)


def _fresh_key(keyring: Keyring, role: Role) -> SigningKey:
    """Return the key that will follow; one that a change cut off left is taken, unless the set knows it."""
    path = keyring.folder / f"{role}.key.new"
    keyring.settle(role)
    path.unlink(missing_ok=True)
    return make_key(path)


def _settled(settings: Settings, role: Role) -> None:
    load_keyring(settings).settle(role)


def _write_set(folder: Path, trust: TrustSet, *roots: SigningKey) -> None:
    _write_files(folder, sign_trust(trust, *roots), trust)


def _write_files(folder: Path, envelope: dict[str, Any], trust: TrustSet) -> None:
    # While both files are on their way, the pins hold the old roots and the new ones: either set can be opened.
    text = json.dumps(envelope, indent=1).encode()
    before = [key.pem for key in _read_pinned(folder)] if (folder / _PINNED).exists() else []
    after = list(trust.root.values())
    _replace(folder / _PINNED, "".join(dict.fromkeys([*before, *after])).encode())
    _replace(folder / _SET, text)
    _replace(folder / _PINNED, "".join(after).encode())


def _read_pinned(folder: Path) -> tuple[PublicKey, ...]:
    end = "-----END PUBLIC KEY-----\n"
    blocks = (folder / _PINNED).read_text().split(end)
    return tuple(parse_public_pem(block + end) for block in blocks if block.strip())


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as sink:
        sink.write(content)
        sink.flush()
        os.fsync(sink.fileno())
    fresh.replace(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _names(keys: dict[str, str]) -> str:
    return ", ".join(keyid[:16] for keyid in keys) or "none"
