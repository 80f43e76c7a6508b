"""Only statements on this image, by a key that may sign their kind, count."""

import pytest

from qtrade.errors import TrustError
from qtrade.signing import STATEMENT_TYPE, ensure_key
from qtrade.trust.keyring import ensure_keyring, revoke_key, rotate_key
from qtrade.trust.statements import (
    CVE,
    PROMOTION,
    PROVENANCE,
    REVOCATION,
    SBOM,
    TEST,
    WAIVER,
    Statements,
    TestRun,
    read_statement,
    statement,
    verify_statements,
)
from tests.fakes.examples import make_settings

pytestmark = pytest.mark.unit

ID = "a" * 64
PREDICATES = {
    SBOM: ("build", {"cyclonedx": "c" * 64, "spdx": "d" * 64}),
    TEST: ("build", {"kind": "boot", "passed": True, "ran": 3, "failures": [], "accel": "tcg"}),
    CVE: ("build", {"snapshot": "e" * 64, "snapshot_time": 1, "open": [], "waived": []}),
    PROVENANCE: ("build", {"buildDefinition": {}}),
    PROMOTION: ("promote", {"channel": "staging", "sequence": 1, "expires": 9, "by": "x"}),
    REVOCATION: ("promote", {"reason": "x", "time": 1, "descendants": []}),
    WAIVER: ("promote", {"cve": "CVE-1"}),
}
FIELDS = {
    SBOM: "sboms",
    TEST: "tests",
    CVE: "cves",
    PROVENANCE: "provenance",
    PROMOTION: "promotions",
    REVOCATION: "revocations",
    WAIVER: "waivers",
}


@pytest.fixture
def settings(tmp_path):
    return make_settings(tmp_path)


@pytest.fixture
def keyring(settings):
    return ensure_keyring(settings)


def said(key, kind, predicate, image_id=ID):
    return key.envelope(STATEMENT_TYPE, statement(image_id, kind, predicate))


@pytest.mark.parametrize("kind", PREDICATES)
def test_each_kind_counts_when_its_role_signed_it(keyring, kind) -> None:
    role, predicate = PREDICATES[kind]
    found = verify_statements(ID, [said(keyring.signer(role), kind, predicate)], keyring.trust)
    assert found.ignored == ()
    assert len(getattr(found, FIELDS[kind])) == 1


@pytest.mark.parametrize("kind", [kind for kind in PREDICATES if kind != REVOCATION])
def test_a_kind_counts_only_when_its_role_signed_it(keyring, kind, tmp_path) -> None:
    role, predicate = PREDICATES[kind]
    other = "promote" if role == "build" else "build"
    envelopes = [
        said(keyring.signer(other), kind, predicate),
        said(keyring.signer("job"), kind, predicate),
        said(ensure_key(tmp_path / "stranger", "x"), kind, predicate),
    ]
    found = verify_statements(ID, envelopes, keyring.trust)
    assert len(found.ignored) == 3
    assert Statements(ignored=found.ignored) == found


def test_a_statement_on_another_image_does_not_count(keyring) -> None:
    role, predicate = PREDICATES[TEST]
    found = verify_statements(ID, [said(keyring.signer(role), TEST, predicate, "b" * 64)], keyring.trust)
    assert found.ignored == ("test/v1: the statement is not on this image",)


def test_what_is_unknown_or_malformed_is_passed_over_with_its_reason(keyring) -> None:
    key = keyring.signer("build")
    envelopes = [said(key, "https://example.org/x", {}), said(key, TEST, {"kind": "boot"}), {"payload": "!"}, {}]
    found = verify_statements(ID, envelopes, keyring.trust)
    assert found.tests == ()
    assert [line.split(":")[0] for line in found.ignored] == ["https", "test/v1", "no statement", "no statement"]


def test_fields_that_a_reader_does_not_know_are_passed_over(keyring) -> None:
    found = verify_statements(ID, [said(keyring.signer("build"), TEST, PREDICATES[TEST][1])], keyring.trust)
    assert found.tests == (TestRun(kind="boot", passed=True, ran=3),)


def test_a_retired_key_counts_and_a_revoked_one_does_not(settings, keyring) -> None:
    envelope = said(keyring.signer("promote"), PROMOTION, PREDICATES[PROMOTION][1])
    old = next(iter(keyring.trust.promote))
    assert verify_statements(ID, [envelope], rotate_key(settings, "promote").trust).promotions
    assert not verify_statements(ID, [envelope], revoke_key(settings, old).trust).promotions


def test_a_revocation_outlives_the_key_that_signed_it(settings, keyring) -> None:
    envelope = said(keyring.signer("promote"), REVOCATION, PREDICATES[REVOCATION][1])
    trust = revoke_key(settings, next(iter(keyring.trust.promote))).trust
    assert verify_statements(ID, [envelope], trust).revocations, "revoking a key must revive no image"


def test_the_promotion_with_the_highest_number_counts_for_its_channel(keyring) -> None:
    key, (_, predicate) = keyring.signer("promote"), PREDICATES[PROMOTION]
    envelopes = [said(key, PROMOTION, {**predicate, "sequence": number}) for number in (2, 5, 3)]
    found = verify_statements(ID, envelopes, keyring.trust)
    best = found.promotion_for("staging")
    assert best is not None
    assert (best[0].sequence, best[1]) == (5, envelopes[1])
    assert found.promotion_for("production") is None


def test_no_statement_is_read_as_one(keyring) -> None:
    key = keyring.signer("build")
    with pytest.raises(TrustError, match="no in-toto statement"):
        read_statement(ID, key.envelope(STATEMENT_TYPE, {"subject": []}), (key.public,))
    good = statement(ID, TEST, {})
    with pytest.raises(TrustError, match="not on this image"):
        read_statement(ID, key.envelope(STATEMENT_TYPE, {**good, "_type": "x"}), (key.public,))
    more = {**good, "subject": [*good["subject"], {"name": "list", "digest": {"sha256": "b" * 64}}]}
    with pytest.raises(TrustError, match="not on this image"):
        read_statement(ID, key.envelope(STATEMENT_TYPE, more), (key.public,))
