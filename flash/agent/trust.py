"""The trust set: which keys may sign images, promotions and jobs, signed by a root. The host keeps one and takes only newer ones."""

import json
import time
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional

from . import dsse, durable
from .errors import AgentError

PAYLOAD_TYPE = "application/vnd.qtrade.trust+json"
_SET = "trust/set.json"

Keys = Dict[str, bytes]


class TrustSet(NamedTuple):
    """Key id -> raw key, by role; `expires` and `issued_at` in Unix seconds. `builders` and `promoters` hold the retired keys too.

    `promotion_keys` is how many promoters sign what a production host takes.
    """

    sequence: int
    issued_at: int
    expires: int
    lab: bool
    roots: Keys
    builders: Keys
    promoters: Keys
    job: Keys
    revoked: Keys
    envelope: Mapping[str, Any]
    promotion_keys: int = 1

    def require_fresh(self, now: float) -> None:
        """Raise `AgentError` when the set has expired."""
        if self.expires <= now:
            raise AgentError(
                "trust-expired",
                f"trust set {self.sequence} expired at {self.expires}, it is {int(now)} by the latest of the clocks",
                "sign a newer one with `qtrade keys renew`; if the host's clock is wrong, correct it",
            )


def open_pinned(envelope: Any, root_id: str) -> TrustSet:
    """Return the set that the root `root_id` signed; the set itself carries that key. Raises `AgentError`."""
    unverified = _load(dsse.read_unverified(envelope, PAYLOAD_TYPE))
    roots = _keys(unverified, "root")
    return open_set(envelope, {name: raw for name, raw in roots.items() if name == root_id})


def open_set(envelope: Any, roots: Mapping[str, bytes]) -> TrustSet:
    """Return the set of an envelope that one of `roots` signed. Raises `AgentError`."""
    dsse.open_envelope(envelope, PAYLOAD_TYPE, roots)
    return _parse(envelope)


def read_held(system: Path) -> TrustSet:
    """Return the set that the host keeps. Raises `AgentError` when it has none.

    Its signature was checked when it was written; whoever can write it now could write its roots as well.
    """
    try:
        envelope = json.loads((system / _SET).read_text())
    except (OSError, ValueError) as error:
        raise AgentError(
            "trust-missing", f"{system / _SET} cannot be read: {error}", "install the host through the pxe door"
        ) from error
    return _parse(envelope)


def write_held(system: Path, trust: TrustSet) -> None:
    """Keep a set; the system partition must be writable."""
    (system / "trust").mkdir(exist_ok=True)
    durable.write_file(system / _SET, dsse.canonical(trust.envelope))


def choose(held: TrustSet, offered: Optional[Mapping[str, Any]], now: float) -> TrustSet:
    """Return the set that counts from now on: the one offered, if a root of the held one signed it and it is newer.

    Raises `AgentError` for an offered set that is older, expired, of the same number with other content, or of a stranger.
    """
    if offered is None or dsse.canonical(offered) == dsse.canonical(held.envelope):
        return held
    found = open_set(offered, held.roots)
    if found.sequence < held.sequence:
        raise AgentError(
            "trust-older",
            f"the job brings trust set {found.sequence}, this host has {held.sequence}",
            "use the newest trust set: `qtrade keys import`",
        )
    if found.sequence == held.sequence and not _same_content(found, held):
        raise AgentError(
            "trust-fork", f"two different trust sets have the number {held.sequence}", "sign a newer one with the root"
        )
    found.require_fresh(now)
    return found


def latest_time(issued_at: float, trust: TrustSet) -> float:
    """Return the latest of the times that are known: a clock that was reset must not make old things fresh."""
    return max(time.time(), issued_at, trust.issued_at)


def offered_set(envelope: Any, payload_type: str) -> Optional[Mapping[str, Any]]:
    """Return the trust set that a job carries, before the job's own signature can be checked; None when it carries none."""
    value = _load(dsse.read_unverified(envelope, payload_type)).get("trust")
    if value is not None and not isinstance(value, dict):
        raise _invalid("trust is no envelope")
    return value


def _same_content(one: TrustSet, other: TrustSet) -> bool:
    return bool(one.envelope["payload"] == other.envelope["payload"])


def _parse(envelope: Any) -> TrustSet:
    fields = _load(dsse.read_unverified(envelope, PAYLOAD_TYPE))
    if fields.get("schema_version") != 1:
        raise _invalid(f"schema_version is {fields.get('schema_version')!r}, allowed is 1")
    retired = fields.get("retired", {})
    if not isinstance(retired, dict) or not isinstance(fields.get("lab", False), bool):
        raise _invalid("retired or lab is of another type")
    trust = TrustSet(
        sequence=_number(fields, "sequence"),
        issued_at=_number(fields, "issued_at"),
        expires=_number(fields, "expires"),
        lab=fields.get("lab", False),
        roots=_keys(fields, "root"),
        builders={**_keys(retired, "build"), **_keys(fields, "build")},
        promoters={**_keys(retired, "promote"), **_keys(fields, "promote")},
        job=_keys(fields, "job"),
        revoked=_keys(fields, "revoked"),
        envelope=envelope,
        # Sets of before two keys were asked for do not say.
        promotion_keys=_number(fields, "promotion_keys") if "promotion_keys" in fields else 1,
    )
    both = set(trust.revoked) & {*trust.roots, *trust.builders, *trust.promoters, *trust.job}
    if both:
        raise _invalid(f"{min(both)} is revoked and trusted at once")
    return trust


def _load(payload: bytes) -> Dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise _invalid("the payload is not JSON") from error
    if not isinstance(value, dict):
        raise _invalid("the payload is not a JSON object")
    return value


def _keys(fields: Mapping[str, Any], name: str) -> Keys:
    value = fields.get(name, {})
    if not isinstance(value, dict) or not all(isinstance(pem, str) for pem in value.values()):
        raise _invalid(f"{name} is no mapping of key id to PEM")
    keys = dsse.load_keys(tuple(value.values()))
    if set(keys) != set(value):
        raise _invalid(f"a key of {name} has another id than its name says")
    return keys


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _invalid(f"{name} is {value!r}, allowed is a whole number")
    return value


def _invalid(message: str) -> AgentError:
    return AgentError("trust-invalid", message, "make the trust set with `qtrade keys`")
