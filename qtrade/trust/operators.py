"""Operators with promote keys of their own: each makes one at home, and the root admits its public half."""

from pathlib import Path

from qtrade.errors import BadInput, ConflictError, Refused
from qtrade.settings import Settings
from qtrade.signing import PublicKey, ensure_key, parse_public_pem
from qtrade.trust.keyring import EXPIRES_DAYS, Keyring, change_trust, load_keyring

_OPERATORS = 2


def request_key(settings: Settings) -> PublicKey:
    """Return the public half of the promote key of this machine's keys folder, which is made if there is none; no trust set is needed."""
    return ensure_key(settings.keys_dir, "promote").public


def admit_key(
    settings: Settings, source: Path, *, root_key: Path | None = None, expires_days: int = EXPIRES_DAYS
) -> Keyring:
    """Let the key in the PEM file `source` promote beside those that do; from the second on, production's hosts ask for two.

    Raises `BadInput` for a file that holds none, `ConflictError` for a key that is in the set, `Refused` for a revoked one and for a lab.
    """
    key = _read_public(source)
    with change_trust(settings, root_key, expires_days) as change:
        trust = change.trust
        if trust.lab:
            raise Refused(
                "a lab has one operator", resolution="make keys with `qtrade keys init` in another state directory"
            )
        if key.keyid in trust.revoked:
            raise Refused(
                f"the key {key.keyid[:16]} was revoked", resolution="make another one: move promote.key away first"
            )
        if key.keyid in {**trust.root, **trust.build, **trust.job, **trust.promote, **trust.retired.promote}:
            raise ConflictError(
                f"the trust set has the key {key.keyid[:16]} already",
                resolution="see `qtrade keys show`; every operator makes a key of their own",
            )
        operators = {**trust.promote, key.keyid: key.pem}
        change.fields = {"promote": operators, "promotion_keys": min(len(operators), _OPERATORS)}
    return load_keyring(settings)


def _read_public(source: Path) -> PublicKey:
    try:
        return parse_public_pem(source.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{source} holds no public key: {error}",
            resolution="let the operator write it with `qtrade keys request --to FILE`",
        ) from error
