"""The trust set: one document, signed by an offline root, that says which keys may sign images, promotions and jobs."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from qtrade.errors import TrustError
from qtrade.manifest.base import Model, Sha256
from qtrade.signing import PublicKey, SigningKey, open_envelope, parse_public_pem

TRUST_TYPE = "application/vnd.qtrade.trust+json"

Role = Literal["build", "promote", "job"]
ROLES: tuple[Role, ...] = ("build", "promote", "job")
Keys = Annotated[dict[Sha256, str], Field(default_factory=dict)]


class RetiredKeys(Model):
    """Keys that sign nothing new; what they signed before still holds. A retired job key gives no host orders: jobs work once."""

    build: Keys
    promote: Keys
    job: Keys


class TrustSet(Model):
    """Key id -> PEM public key, by role. `issued_at` and `expires` are Unix seconds; `sequence` grows with every change.

    `root` keys sign the next trust set. `revoked` keys sign nothing that counts, except that a revocation of theirs stays one.
    A `lab` set was made without ceremony and is good for development only. `promotion_keys` is how many promote keys must have signed what
    production's hosts take; the hosts count them themselves.
    """

    schema_version: Literal[1] = 1
    sequence: int = Field(ge=1)
    issued_at: int = Field(ge=0)
    expires: int = Field(ge=0)
    lab: bool = False
    promotion_keys: int = Field(default=1, ge=1, le=2)
    root: Keys = Field(min_length=1)
    build: Keys
    promote: Keys
    job: Keys
    retired: RetiredKeys = Field(default_factory=lambda: RetiredKeys.model_validate({}))
    revoked: Keys

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        seen: set[str] = set()
        retired = (self.retired.build, self.retired.promote, self.retired.job)
        for place in (self.root, *self.by_role().values(), *retired, self.revoked):
            for keyid, pem in place.items():
                if parse_public_pem(pem).keyid != keyid:
                    raise ValueError(f"key {keyid[:16]} has another id than its name says")
                if keyid in seen:
                    raise ValueError(f"key {keyid[:16]} has two places")
                seen.add(keyid)
        return self

    def by_role(self) -> dict[Role, dict[str, str]]:
        """Return the keys that sign now."""
        return {"build": self.build, "promote": self.promote, "job": self.job}

    def builders(self) -> tuple[PublicKey, ...]:
        """Return the keys whose signature makes an image ours: those that sign now, and the retired ones."""
        return public_keys({**self.build, **self.retired.build})

    def ever_built(self) -> tuple[PublicKey, ...]:
        """Return the builders and the revoked keys: to say of an image whose it is, not whether it is good."""
        return (*self.builders(), *public_keys(self.revoked))

    def promoters(self) -> tuple[PublicKey, ...]:
        """Return the keys whose promotions count: those that sign now, and the retired ones."""
        return public_keys({**self.promote, **self.retired.promote})

    def deployers(self) -> tuple[PublicKey, ...]:
        """Return the keys whose word counts on what an image did on hosts: those of deploys, now or before, and of bakes."""
        return (*public_keys({**self.job, **self.retired.job}), *self.builders())

    def revokers(self) -> tuple[PublicKey, ...]:
        """Return the keys whose revocations count: whoever was trusted once, so that revoking a key revives no image."""
        return (*self.builders(), *self.promoters(), *public_keys(self.revoked))

    def roots(self) -> tuple[PublicKey, ...]:
        """Return the keys that may sign the next set."""
        return public_keys(self.root)


def public_keys(pems: dict[str, str]) -> tuple[PublicKey, ...]:
    """Return the keys of a mapping of key id to PEM."""
    return tuple(parse_public_pem(pem) for pem in pems.values())


def sign_trust(trust: TrustSet, *roots: SigningKey) -> dict[str, Any]:
    """Return the DSSE envelope that hosts are given, with one signature per root: two when one root follows another."""
    envelopes = [root.envelope(TRUST_TYPE, trust.model_dump(mode="json")) for root in roots]
    return {**envelopes[0], "signatures": [signature for one in envelopes for signature in one["signatures"]]}


def open_trust(envelope: dict[str, Any], roots: tuple[PublicKey, ...]) -> TrustSet:
    """Return the trust set of an envelope that one of `roots` signed. Raises `TrustError`."""
    payload = open_envelope(envelope, TRUST_TYPE, roots)
    try:
        return TrustSet.model_validate(payload)
    except ValidationError as error:
        raise TrustError("the trust set is of another format", details=str(error)) from error


def signing_root(envelope: dict[str, Any], trust: TrustSet) -> str:
    """Return the id of a root of the set that signed its envelope: what an installer pins. Raises `TrustError`."""
    for signature in envelope["signatures"]:
        if signature["keyid"] in trust.root:
            return str(signature["keyid"])
    raise TrustError("no root of its own signed the trust set", resolution="sign it again: qtrade keys renew")
