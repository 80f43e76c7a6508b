"""Signed statements about an image: in-toto Statement v1 in DSSE envelopes, one kind of predicate each.

https://github.com/in-toto/attestation/tree/main/spec/v1 ; as it demands, readers pass over fields that they do not know.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import AwareDatetime, Field, ValidationError

from qtrade.errors import TrustError
from qtrade.manifest.base import Sha256
from qtrade.signing import STATEMENT_TYPE, PublicKey, open_envelope, signers_of_envelope
from qtrade.trust.fleet_facts import Approval, Bench, Integration, Rollout
from qtrade.trust.predicate import Predicate
from qtrade.trust.trust_set import TrustSet, public_keys

_IN_TOTO = "https://in-toto.io/Statement/v1"
_OURS = "https://github.com/qtrade/qtrade/attestation"
SBOM = f"{_OURS}/sbom/v1"
TEST = f"{_OURS}/test/v1"
CVE = f"{_OURS}/cve/v1"
PROMOTION = f"{_OURS}/promotion/v1"
REVOCATION = f"{_OURS}/revocation/v1"
WAIVER = f"{_OURS}/waiver/v1"
ROLLOUT = f"{_OURS}/rollout/v1"
INTEGRATION = f"{_OURS}/integration/v1"
BENCH = f"{_OURS}/bench/v1"
APPROVAL = f"{_OURS}/approval/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"

BOOT = "boot"
LAYER = "layer"


class Sbom(Predicate):
    """Digests of the bills of materials, which lie in the store as documents."""

    cyclonedx: Sha256
    spdx: Sha256


class TestRun(Predicate):
    """A test that was run.

    `kind` is `layer` (specs in a chroot of the layers), `boot` (specs on the image, booted by `firmware`) or `reproducible` (a second
    bake elsewhere gave the same bytes).
    """

    __test__ = False  # pytest takes it for a test class else

    kind: str
    firmware: str = ""
    passed: bool
    ran: int = 0
    failures: tuple[str, ...] = ()


class CveGate(Predicate):
    """What the tracker's snapshot says of the packages; `open` findings are those that no waiver covers.

    `passed` is the gate's own verdict, which may let some findings by; where it is not given, none may be open.
    """

    snapshot: Sha256
    snapshot_time: AwareDatetime
    passed: bool | None = None
    open: tuple[Any, ...] = ()
    waived: tuple[Any, ...] = ()

    @property
    def is_passed(self) -> bool:
        """Whether the image passed the gate."""
        return not self.open if self.passed is None else self.passed

    @property
    def blocking(self) -> tuple[str, ...]:
        """The open findings that stop the image, as far as the gate says which they are, else all of them."""
        found = (item if isinstance(item, dict) else {"cve": item} for item in self.open)
        return tuple(
            f"{item.get('cve')} {item.get('package', '')}".strip() for item in found if item.get("blocks", True)
        )


class Promotion(Predicate):
    """That an image may run where a channel leads. `expires` in Unix seconds; `sequence` counts within the channel."""

    channel: str
    sequence: int = Field(ge=1)
    expires: int
    by: str = ""


class Revocation(Predicate):
    """That an image must not be used any more. `time` in Unix seconds; `descendants` are versions that were revoked along."""

    reason: str
    time: int
    descendants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statements:
    """The statements on one image whose signatures hold, oldest first; `ignored` says why others do not count.

    `promotion_signers` and `approval_signers` are the trusted keys that signed each one.
    """

    sboms: tuple[Sbom, ...] = ()
    tests: tuple[TestRun, ...] = ()
    cves: tuple[CveGate, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    promotion_envelopes: tuple[dict[str, Any], ...] = ()
    promotion_signers: tuple[frozenset[str], ...] = ()
    approvals: tuple[Approval, ...] = ()
    approval_signers: tuple[frozenset[str], ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    integrations: tuple[Integration, ...] = ()
    benches: tuple[Bench, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    waivers: tuple[dict[str, Any], ...] = ()
    provenance: tuple[dict[str, Any], ...] = ()
    ignored: tuple[str, ...] = ()

    def last_cve_scan(self) -> CveGate | None:
        """Return the scan by the newest snapshot, of several the one that was attested last; None when there is none."""
        return max(reversed(self.cves), key=lambda one: one.snapshot_time, default=None)

    def last_boot_test(self, firmware: str) -> TestRun | None:
        """Return the last boot by that firmware, or None."""
        found = [run for run in self.tests if (run.kind, run.firmware) == (BOOT, firmware)]
        return found[-1] if found else None

    def tests_passed(self) -> tuple[str, ...]:
        """Return the kinds of tests whose last run passed, sorted."""
        last = {run.kind: run.passed for run in self.tests}
        return tuple(sorted(kind for kind, passed in last.items() if passed))

    def promotion_for(self, channel: str) -> tuple[Promotion, dict[str, Any]] | None:
        """Return the promotion to `channel` with the highest sequence, and its envelope, or None."""
        pairs = zip(self.promotions, self.promotion_envelopes, strict=True)
        found = [pair for pair in pairs if pair[0].channel == channel]
        return max(found, key=lambda pair: pair[0].sequence, default=None)


def statement(image_id: str, predicate_type: str, predicate: dict[str, Any]) -> dict[str, Any]:
    """Return the in-toto Statement v1 on the image, to be put in an envelope of `STATEMENT_TYPE`."""
    return {
        "_type": _IN_TOTO,
        "subject": [{"name": "list", "digest": {"sha256": image_id}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def read_statement(
    image_id: str, envelope: dict[str, Any], trusted: tuple[PublicKey, ...]
) -> tuple[str, dict[str, Any]]:
    """Return predicate type and predicate of a statement on the image that a trusted key signed. Raises `TrustError`."""
    document = open_envelope(envelope, STATEMENT_TYPE, trusted)
    try:
        digests = [item["digest"]["sha256"] for item in document["subject"] if item["name"] == "list"]
        found = (document["_type"], str(document["predicateType"]), dict(document["predicate"]))
    except (KeyError, TypeError, ValueError) as error:
        raise TrustError("this is no in-toto statement", details=repr(error)) from error
    if found[0] != _IN_TOTO or digests != [image_id]:
        raise TrustError(
            "the statement is not on this image", details=f"it is on {', '.join(map(str, digests)) or 'nothing'}"
        )
    return found[1], found[2]


def verify_statements(image_id: str, envelopes: Iterable[dict[str, Any]], trust: TrustSet) -> Statements:
    """Return what of `envelopes` counts: on this image, and signed by a key that may sign statements of its kind."""
    signers = _signers(trust)
    found: dict[str, list[Any]] = {kind: [] for kind in signers}
    envelopes_of: dict[str, list[dict[str, Any]]] = {PROMOTION: [], APPROVAL: []}
    ignored: list[str] = []
    for envelope in envelopes:
        kind = _claimed_type(envelope)
        if kind not in signers:
            ignored.append(f"{kind or 'no statement'}: of no kind that is known")
            continue
        try:
            _, predicate = read_statement(image_id, envelope, signers[kind])
            found[kind].append(_parse(kind, predicate))
        except TrustError as error:
            ignored.append(f"{kind.rpartition('attestation/')[2]}: {error.brief}")
            continue
        if kind in envelopes_of:
            envelopes_of[kind].append(envelope)

    def signed(kind: str) -> tuple[frozenset[str], ...]:
        return tuple(signers_of_envelope(one, STATEMENT_TYPE, signers[kind]) for one in envelopes_of[kind])

    return Statements(
        sboms=tuple(found[SBOM]),
        tests=tuple(found[TEST]),
        cves=tuple(found[CVE]),
        promotions=tuple(found[PROMOTION]),
        promotion_envelopes=tuple(envelopes_of[PROMOTION]),
        promotion_signers=signed(PROMOTION),
        approvals=tuple(found[APPROVAL]),
        approval_signers=signed(APPROVAL),
        rollouts=tuple(found[ROLLOUT]),
        integrations=tuple(found[INTEGRATION]),
        benches=tuple(found[BENCH]),
        revocations=tuple(found[REVOCATION]),
        waivers=tuple(found[WAIVER]),
        provenance=tuple(found[PROVENANCE]),
        ignored=tuple(ignored),
    )


def _signers(trust: TrustSet) -> dict[str, tuple[PublicKey, ...]]:
    """Return who may sign what: builders say what was made and tested, deployers what it did on hosts, promoters what may run.

    A retired key approves nothing: its owner has another one, and would count twice.
    """
    promoters = trust.promoters()
    facts = dict.fromkeys((SBOM, TEST, CVE, PROVENANCE), trust.builders())
    seen = dict.fromkeys((ROLLOUT, INTEGRATION, BENCH), trust.deployers())
    words = {PROMOTION: promoters, APPROVAL: public_keys(trust.promote), WAIVER: promoters}
    return {**facts, **seen, **words, REVOCATION: trust.revokers()}


def _claimed_type(envelope: dict[str, Any]) -> str:
    """Return the predicate type that an envelope claims, to know whose signature to demand; empty for none."""
    try:
        return str(json.loads(base64.b64decode(envelope["payload"]))["predicateType"])
    except (KeyError, TypeError, ValueError):
        return ""


_MODELS: dict[str, type[Predicate]] = {
    SBOM: Sbom,
    TEST: TestRun,
    CVE: CveGate,
    PROMOTION: Promotion,
    REVOCATION: Revocation,
    ROLLOUT: Rollout,
    INTEGRATION: Integration,
    BENCH: Bench,
    APPROVAL: Approval,
}


def _parse(kind: str, predicate: dict[str, Any]) -> Predicate | dict[str, Any]:
    if kind not in _MODELS:
        return predicate
    try:
        return _MODELS[kind].model_validate(predicate)
    except ValidationError as error:
        raise TrustError("its predicate is malformed", details=str(error)) from error
