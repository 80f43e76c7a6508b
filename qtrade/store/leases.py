"""Leases of hosts in the store: one operator at a time, also from two machines. Each lease has a token that only grows.

Clocks decide only when a lease that nobody renews is free again. That its holder is really gone is the host's to tell: it refuses
jobs with a smaller token than the last it saw.
"""

import json
import secrets
import time
from dataclasses import asdict, dataclass, replace

from qtrade.errors import ConflictError, TrustError
from qtrade.look import say_time
from qtrade.store.objects import Changed, Missing, Objects, key_of

LEASE_S = 180.0


@dataclass(frozen=True)
class Lease:
    """Who holds a host. Times are Unix seconds; `where` names the state directory that the holder's machine locks besides.

    `quarantine` says why nobody gets the host until a person has looked at it.
    """

    host: str
    holder: str
    pid: int
    where: str
    since: float
    expires: float
    token: int
    nonce: str
    released: bool = False
    quarantine: str = ""

    def is_held(self, now: float) -> bool:
        """Return whether somebody holds the host at that time."""
        return not self.released and now < self.expires

    def to_bytes(self) -> bytes:
        """Return the lease as JSON."""
        fields = {"schema_version": 1, **asdict(self)}
        if not self.quarantine:
            del fields["quarantine"]
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Lease":
        """Read a lease. Raises `ValueError`."""
        fields = json.loads(content)
        try:
            if fields.pop("schema_version") != 1:
                raise ValueError("it is of another schema")
            return cls(**fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(str(error)) from error


class HeldElsewhere(ConflictError):
    """Somebody else holds the host."""

    def __init__(self, lease: Lease) -> None:
        left_s = max(lease.expires - time.time(), 0)
        super().__init__(
            f"{lease.host} is held by {lease.holder} (process {lease.pid}) since {say_time(lease.since)}",
            details=f"token {lease.token}; renewed until {say_time(lease.expires)}",
            resolution=f"wait for it to end; if it was killed, the lease runs out in {left_s:.0f} s",
        )


class Quarantined(ConflictError):
    """The host's last flash ended where only a person can go on."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(
            f"{lease.host} is quarantined: {lease.quarantine}",
            details=f"by the flash of {lease.holder} that began at {say_time(lease.since)}",
            resolution=f"look at the host (`qtrade hosts show {lease.host}`, its console) and mend it; "
            f"then take it out of quarantine with `qtrade flash --host {lease.host} --abort`",
        )


class LeaseLost(ConflictError):
    """The host was ours, and somebody else has it now, or may have: it must not be touched any more."""


class Leases:
    """The leases of a store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, host: str) -> Lease | None:
        """Return the last lease of a host, held or not. Raises `TrustError` when it is damaged."""
        found = self._read(host)
        return found[0] if found else None

    def take(self, host: str, *, holder: str, pid: int, where: str, clears: bool = False) -> tuple[Lease, Lease | None]:
        """Take the lease of a host; return it, and the one that it follows if that ran out without an end or in quarantine.

        One of the same `where` is taken over at once: its lock there is the caller's, so its holder is gone.
        With `clears`, a quarantine ends. Raises `HeldElsewhere`, `Quarantined`, `ConflictError`.
        """
        found = self._read(host)
        before, etag = found or (None, None)
        now = time.time()
        if before is not None and before.is_held(now) and before.where != where:
            raise HeldElsewhere(before)
        if before is not None and before.quarantine and not clears:
            raise Quarantined(before)
        # Never smaller than what another store gave: a host remembers the token, not the store.
        token = max(before.token + 1 if before else 1, int(now))
        nonce = secrets.token_hex(16)
        lease = Lease(host, holder, pid, where, now, now + LEASE_S, token, nonce)
        try:
            self._objects.put_if(_key(host), lease.to_bytes(), etag)
        except Changed as error:
            other = self.read(host)
            if other is not None and other.is_held(time.time()):
                raise HeldElsewhere(other) from error
            raise
        return lease, before if before is not None and (before.quarantine or not before.released) else None

    def renew(self, lease: Lease) -> Lease:
        """Hold on to a lease. Raises `HeldElsewhere` when somebody else took it, `ConflictError` when it is gone."""
        return self._replace(lease, expires=time.time() + LEASE_S)

    def release(self, lease: Lease, *, quarantine: str = "") -> None:
        """Give a lease back; its token stays, so that the next is greater. One that is lost already is left alone.

        `quarantine` says why nobody is to have the host before a person has looked at it.
        """
        try:
            self._replace(lease, released=True, quarantine=quarantine)
        except ConflictError:
            return

    def _replace(
        self, lease: Lease, *, expires: float | None = None, released: bool = False, quarantine: str = ""
    ) -> Lease:
        found = self._read(lease.host)
        if found is None or found[0].nonce != lease.nonce:
            if found is not None:
                raise HeldElsewhere(found[0])
            raise ConflictError(f"the lease of {lease.host} is gone from the store")
        renewed = replace(lease, expires=expires or found[0].expires, released=released, quarantine=quarantine)
        self._objects.put_if(_key(lease.host), renewed.to_bytes(), found[1])
        return renewed

    def _read(self, host: str) -> tuple[Lease, str] | None:
        try:
            content, etag = self._objects.get(_key(host))
            return Lease.from_bytes(content), etag
        except Missing:
            return None
        except ValueError as error:
            raise TrustError(
                f"the lease of {host} is damaged in the store",
                details=str(error),
                resolution=f"make sure that nobody flashes {host}, then delete {_key(host)} there",
            ) from error


def _key(host: str) -> str:
    return f"{key_of('leases', host)}.json"
