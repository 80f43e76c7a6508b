"""The claim of each staked identity in the store: one document, replaced only by who has read it, and every state it ever had beside it.

Unlike a lease it does not run out: that its holder is silent is no proof that it has stopped.
"""

import getpass
import json
import secrets
import socket
import time
from dataclasses import asdict, replace
from typing import Any

from flash.identity.facts import Claim, ClaimState, Stop, Votes
from qtrade.errors import ConflictError, TrustError
from qtrade.store.objects import Changed, Missing, Objects, key_of

_FOLDER = "identities"


class Claims:
    """The claims of a store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, identity: str) -> Claim | None:
        """Return the claim of an identity, None where nobody ever held it. Raises `TrustError` for a damaged one."""
        found = self._read(identity)
        return found[0] if found else None

    def begin(self, claim: Claim) -> Claim:
        """Write the first claim of an identity. Raises `ConflictError` when somebody else was quicker."""
        return self._write(None, replace(claim, **_now()))

    def advance(self, before: Claim, **changes: Any) -> Claim:
        """Replace the claim that was read as `before`; its number grows. Raises `ConflictError` when it is not that any more."""
        return self._write(before, replace(before, number=before.number + 1, **changes, **_now()))

    def held_by(self, host: str) -> tuple[Claim, ...]:
        """Return the claims under which a host signs, may sign, or is about to."""
        keys = [entry.key for entry in self._objects.list(f"{_FOLDER}/") if entry.key.count("/") == 1]
        read = [found[0] for key in keys if (found := self._read(key.split("/")[1].removesuffix(".json")))]
        return tuple(
            claim for claim in read if claim.state is not ClaimState.RELEASED and host in (claim.host, claim.to)
        )

    def _write(self, before: Claim | None, claim: Claim) -> Claim:
        found = self._read(claim.identity)
        if (found[0] if found else None) != before:
            raise _changed(claim.identity, found[0] if found else None)
        if before is not None:
            self._objects.put_new(_key(before.identity, before.number), _to_bytes(before))
        try:
            self._objects.put_if(_key(claim.identity), _to_bytes(claim), found[1] if found else None)
        except Changed as error:
            raise _changed(claim.identity, self.read(claim.identity)) from error
        # An object store may have written and lost the answer: what stands there counts, also for a write like ours by another.
        if self.read(claim.identity) != claim:
            raise _changed(claim.identity, self.read(claim.identity))
        return claim

    def _read(self, identity: str) -> tuple[Claim, str] | None:
        try:
            content, etag = self._objects.get(_key(identity))
            return _from_bytes(content), etag
        except Missing:
            return None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise TrustError(
                f"the claim of {identity} is damaged in the store",
                details=str(error),
                resolution=f"nobody takes it before it is mended: {_FOLDER}/{identity}/ there has each of its earlier states",
            ) from error


def _changed(identity: str, now: Claim | None) -> ConflictError:
    told = f"{now.host} {now.state}, number {now.number}, by {now.by}" if now else "gone"
    return ConflictError(
        f"somebody else changed the claim of {identity} meanwhile: {told}",
        resolution="nothing was sent to a host after that; look with `qtrade identity show`, then decide again",
    )


def _key(identity: str, number: int | None = None) -> str:
    if number is None:
        return f"{key_of(_FOLDER, identity)}.json"
    return f"{key_of(_FOLDER, identity, f'{number:08}')}.json"


def _now() -> dict[str, Any]:
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    return {"by": who, "at": round(time.time(), 3), "nonce": secrets.token_hex(16)}


def _to_bytes(claim: Claim) -> bytes:
    return (json.dumps({"schema_version": 1, **asdict(claim)}, sort_keys=True, indent=1) + "\n").encode()


def _from_bytes(content: bytes) -> Claim:
    fields = json.loads(content)
    if fields.pop("schema_version") != 1:
        raise ValueError("it is of another schema")
    stop, votes = fields.pop("stop"), fields.pop("votes")
    return Claim(
        **{**fields, "state": ClaimState(fields["state"])},
        stop=Stop.from_json(stop) if stop else None,
        votes=Votes(**votes) if votes else None,
    )
