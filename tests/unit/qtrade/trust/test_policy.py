"""What may run where: one table of facts and the reason that each leads to."""

from dataclasses import replace

import pytest

from qtrade.errors import Refused
from qtrade.trust.keyring import ensure_keyring, revoke_key, rotate_key
from qtrade.trust.policy import (
    Candidate,
    raise_refused,
    refuse_install,
    refuse_older,
    refuse_promotion,
    rules_for,
)
from qtrade.trust.refusal import Code
from qtrade.trust.statements import CveGate, Promotion, Revocation, Statements, TestRun
from tests.fakes.examples import make_environment, make_image, make_settings
from tests.fakes.releases import REAL, rules

pytestmark = pytest.mark.unit

NOW = 1_900_000_000
PROMOTED = Promotion(channel="production", sequence=3, expires=NOW + 1)
BOOTED = tuple(TestRun(kind="boot", firmware=firmware, passed=True) for firmware in ("bios", "uefi"))
GOOD = Statements(
    tests=BOOTED, promotions=(PROMOTED,), promotion_envelopes=({},), promotion_signers=(frozenset({"one"}),)
)


@pytest.fixture
def settings(tmp_path):
    settings = make_settings(tmp_path)
    ensure_keyring(settings)
    return settings


@pytest.fixture
def trust(settings):
    """A trust set of production that expires after NOW."""
    return ensure_keyring(settings).trust.model_copy(update={"lab": False, "expires": NOW + 1})


@pytest.fixture
def good(trust) -> Candidate:
    return Candidate(make_image(components=REAL), frozenset(trust.build), GOOD)


def codes(refusals) -> list[Code]:
    return [one.code for one in refusals]


def test_what_was_built_tested_and_promoted_is_taken(good, trust) -> None:
    assert refuse_install(good, trust, rules("production"), NOW) == ()
    assert refuse_promotion(good, trust, rules("production"), NOW) == ()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (replace(GOOD, promotions=(), promotion_signers=()), Code.NOT_PROMOTED),
        (replace(GOOD, promotions=(PROMOTED.model_copy(update={"channel": "staging"}),)), Code.WRONG_CHANNEL),
        (replace(GOOD, promotions=(PROMOTED.model_copy(update={"expires": NOW}),)), Code.EXPIRED),
        (replace(GOOD, revocations=(Revocation(reason="CVE", time=NOW),)), Code.IMAGE_REVOKED),
        (replace(GOOD, tests=BOOTED[:1]), Code.NOT_BOOT_TESTED),
        (replace(GOOD, tests=BOOTED[1:]), Code.NOT_BOOT_TESTED),
        (replace(GOOD, tests=(*BOOTED, TestRun(kind="boot", firmware="uefi", passed=False))), Code.NOT_BOOT_TESTED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_statement_that_is_missing_or_speaks_against_it_is_the_reason(good, trust, said, code) -> None:
    assert codes(refuse_install(replace(good, statements=said), trust, rules("production"), NOW)) == [code]


@pytest.mark.parametrize("tests", [(), (TestRun(kind="layer", passed=True),), (TestRun(kind="boot", passed=True),)])
def test_a_boot_test_counts_for_the_firmware_that_it_names(good, trust, tests) -> None:
    found = refuse_install(replace(good, statements=replace(GOOD, tests=tests)), trust, rules("staging"), NOW)
    assert [one.reason for one in found] == ["it was not boot-tested by bios", "it was not boot-tested by uefi"]


def test_only_what_was_promoted_needs_no_promotion_to_be_promoted(good, trust) -> None:
    unpromoted = replace(good, statements=replace(GOOD, promotions=(), promotion_signers=()))
    assert refuse_promotion(unpromoted, trust, rules("production"), NOW) == ()


def test_a_host_takes_what_was_promoted_beyond_its_channel(good, trust) -> None:
    assert refuse_install(good, trust, rules("staging"), NOW) == ()


def test_standins_are_refused_past_development(trust) -> None:
    holds = Candidate(make_image(), frozenset(trust.build), GOOD)
    assert codes(refuse_promotion(holds, trust, rules("staging"), NOW)) == [Code.STANDINS]
    assert refuse_promotion(holds, trust, rules("dev", standins=True), NOW) == ()
    assert codes(refuse_promotion(holds, trust, rules("dev"), NOW)) == [Code.STANDINS]


def test_no_manifest_lets_standins_past_development() -> None:
    assert rules_for(make_environment(allow_standins=True)).allow_standins
    assert not rules_for(make_environment(name="staging", allow_standins=True)).allow_standins
    assert rules_for(make_environment(name="production", require_cve_gate=True)).needs_cve_gate


def test_keys_of_a_lab_count_in_development_only(good, trust) -> None:
    lab = trust.model_copy(update={"lab": True})
    for channel in ("staging", "production"):
        assert codes(refuse_install(good, lab, rules(channel), NOW)) == [Code.LAB_KEYS]
    assert refuse_install(good, lab, rules("dev"), NOW) == ()


def test_a_trust_set_expires(good, trust) -> None:
    assert codes(refuse_install(good, trust, rules("dev"), trust.expires)) == [Code.TRUST_EXPIRED]


def test_an_image_of_a_retired_key_is_good_and_of_a_revoked_one_is_not(good, settings) -> None:
    rotated = rotate_key(settings, "build", expires_days=36500).trust
    assert refuse_install(good, rotated, rules("dev"), NOW) == ()
    revoked = revoke_key(settings, next(iter(good.signers)), expires_days=36500).trust
    assert codes(refuse_install(good, revoked, rules("dev"), NOW)) == [Code.KEY_REVOKED]
    unsigned = replace(good, signers=frozenset())
    assert codes(refuse_install(unsigned, revoked, rules("dev"), NOW)) == [Code.UNSIGNED]


def test_the_cve_gate_is_asked_for_where_the_environment_says_so(good, trust) -> None:
    gate = rules("production", cve=True)
    assert codes(refuse_install(good, trust, gate, NOW)) == [Code.NO_CVE_GATE]
    found = (
        ((), None, []),
        (("CVE-1", "CVE-2"), None, [Code.CVE_OPEN]),
        # The gate's own verdict counts: it lets by what is not severe or has no fix.
        (("CVE-1",), True, []),
        (("CVE-1",), False, [Code.CVE_OPEN]),
    )
    for open_findings, passed, expected in found:
        cve = CveGate(snapshot="a" * 64, snapshot_time=NOW, open=open_findings, passed=passed)
        said = replace(GOOD, cves=(cve,))
        assert codes(refuse_install(replace(good, statements=said), trust, gate, NOW)) == expected


def test_the_scan_by_the_newest_snapshot_counts_until_it_is_too_old(good, trust) -> None:
    gate, day = rules("production", cve=True), 86400
    old = CveGate(snapshot="a" * 64, snapshot_time=NOW - 8 * day, passed=True)
    new = CveGate(snapshot="b" * 64, snapshot_time=NOW - 1, passed=False, open=({"cve": "CVE-1", "blocks": True},))

    def refuse(*cves: CveGate) -> list[Code]:
        said = replace(good, statements=replace(GOOD, cves=cves))
        return codes(refuse_install(said, trust, gate, NOW))

    assert refuse(old) == [Code.CVE_STALE]
    assert refuse(old, new) == refuse(new, old) == [Code.CVE_OPEN]
    assert refuse(new, new.model_copy(update={"passed": True})) == []
    assert codes(refuse_install(replace(good, statements=GOOD), trust, rules("production"), NOW)) == []


def test_what_blocks_is_named_and_what_does_not_is_no_finding(good, trust) -> None:
    found = tuple({"cve": f"CVE-{number}", "package": "p", "blocks": number > 1} for number in range(1, 4))
    cve = CveGate(snapshot="a" * 64, snapshot_time=NOW, passed=False, open=found)
    said = replace(good, statements=replace(GOOD, cves=(cve,)))
    (refusal,) = refuse_install(said, trust, rules("production", cve=True), NOW)
    assert refusal.reason == "it did not pass the CVE gate; not waived: CVE-2 p, CVE-3 p"


def test_all_reasons_are_given_at_once(trust) -> None:
    worst = Candidate(make_image(), frozenset(), Statements(revocations=(Revocation(reason="x", time=1),)))
    found = codes(refuse_install(worst, trust, rules("production", cve=True), NOW))
    assert found == [
        Code.UNSIGNED,
        Code.IMAGE_REVOKED,
        Code.STANDINS,
        Code.NOT_BOOT_TESTED,
        Code.NOT_BOOT_TESTED,
        Code.NO_CVE_GATE,
        Code.NOT_PROMOTED,
    ]


@pytest.mark.parametrize(
    ("sequence", "host", "allowed", "refused"),
    [(3, 4, False, True), (3, 4, True, False), (4, 4, False, False), (5, 4, False, False), (0, 4, False, False)],
)
def test_an_image_that_was_promoted_earlier_needs_a_word(sequence, host, allowed, refused) -> None:
    assert codes(refuse_older(sequence, host, allow_older=allowed)) == ([Code.OLDER] if refused else [])


@pytest.mark.parametrize("code", Code)
def test_every_reason_has_a_cure(code, good, trust) -> None:
    refusal = refuse_older(1, 2, allow_older=False)[0]
    with pytest.raises(Refused) as caught:
        raise_refused("it is refused", (replace(refusal, code=code),))
    assert caught.value.resolution
    assert f"{code}: " in caught.value.details
    raise_refused("it is fine", ())


def test_a_blocked_image_is_promoted_nowhere_and_installed_in_development_only(good, trust) -> None:
    blocked = replace(good, blocked="gate rpc_health on rpc-1")
    assert codes(refuse_install(blocked, trust, rules("staging"), NOW)) == [Code.BLOCKED]
    assert codes(refuse_install(blocked, trust, rules("dev"), NOW)) == []
    assert Code.BLOCKED in codes(refuse_promotion(blocked, trust, rules("dev"), NOW))
    found = refuse_promotion(blocked, trust, rules("production"), NOW)
    assert [one.reason for one in found] == ["a rollout found it bad: gate rpc_health on rpc-1"]
