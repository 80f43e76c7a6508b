"""A promotion to production takes two operators: each key counts once, and both have signed the same bytes."""

import json
import time
from dataclasses import replace

import pytest

from flash.agent import admission
from flash.agent import trust as host_trust
from flash.trust import load_allowed
from qtrade.errors import BadInput, ConflictError, NotFound, Refused
from qtrade.settings import Settings
from qtrade.signing import STATEMENT_TYPE, make_key, signers_of_envelope
from qtrade.trust.fleet_facts import Approval
from qtrade.trust.keyring import ensure_keyring, init_keys, load_keyring, renew_trust, revoke_key, rotate_key
from qtrade.trust.operators import admit_key, request_key
from qtrade.trust.policy import Rules
from qtrade.trust.promotion import approve
from qtrade.trust.release import plan_approval, plan_promotion, promote
from qtrade.trust.statements import APPROVAL, PROMOTION, verify_statements
from tests.fakes.examples import make_environment, make_settings
from tests.fakes.releases import Room

pytestmark = pytest.mark.unit

NOW = int(time.time())
PRODUCTION = make_environment(name="production", allow_standins=False)
RULES = Rules("production", "production", allow_standins=False, needs_cve_gate=False, keys=2)


@pytest.fixture
def room(tmp_path) -> Room:
    settings = make_settings(tmp_path)
    init_keys(settings)
    return Room(settings)


@pytest.fixture
def anna(room, tmp_path) -> Room:
    """A second operator: a keys folder of her own, the public files of the first one, the same store."""
    settings = replace(make_settings(tmp_path / "anna"), store=room.settings.store)
    (tmp_path / "anna.pem").write_text(request_key(settings).pem)
    admit_key(room.settings, tmp_path / "anna.pem")
    share(room, settings)
    return Room(settings)


def share(room: Room, settings: Settings) -> None:
    """Bring the trust set and its roots to another operator."""
    for name in ("trust.json", "root.pem"):
        (settings.keys_dir / name).write_bytes((room.settings.keys_dir / name).read_bytes())


def plan(room: Room, *, now: int = NOW, version: str = "0.1.0"):
    return plan_promotion(room.store, room.keyring, RULES, "demo", version, expires_days=7, now=now)


def approved(room: Room, *, within: int = 7, version: str = "0.1.0") -> Approval:
    made = plan_approval(room.store, room.keyring, RULES, "demo", version, expires_days=30, now=NOW)
    return approve(room.store, room.keyring, made, within_days=within, now=NOW)


def envelope_of(room: Room, image_id: str):
    said = verify_statements(image_id, room.store.attestations(image_id), room.keyring.trust)
    return said.promotion_for("production")


def test_two_operators_sign_the_same_promotion(room, anna) -> None:
    image = room.publish()
    approved(anna)
    made = plan(room)
    assert (made.approved_by, made.expires) == (tuple(only(anna)), NOW + 30 * 86400)
    promote(room.store, room.keyring, made)
    _, envelope = envelope_of(room, image.id)
    assert signers_of_envelope(envelope, STATEMENT_TYPE, room.keyring.trust.promoters()) == only(room) | only(anna)
    loaded = load_allowed(room.store, "demo", "0.1.0", trust=room.keyring.trust, environment=PRODUCTION)
    assert loaded.promotion == envelope


def only(room: Room) -> frozenset[str]:
    return frozenset({room.keyring.signer("promote").public.keyid})


def test_one_operator_is_not_enough_nor_the_same_one_twice(room, anna) -> None:
    room.publish()
    with pytest.raises(Refused, match="2 operators sign it, 1 did") as caught:
        plan(room)
    assert "qtrade images approve" in caught.value.resolution
    approved(room)
    with pytest.raises(Refused, match="2 operators sign it, 1 did"):
        plan(room)
    assert plan(anna).approved_by == tuple(only(room))


@pytest.mark.parametrize("spoil", ["late", "moved", "other version", "revoked"])
def test_an_approval_counts_for_that_promotion_only(room, anna, spoil) -> None:
    room.publish()
    room.publish("0.2.0", cmdline="debug")
    approved(anna)
    now, version = NOW, "0.1.0"
    if spoil == "late":
        now += 8 * 86400
    elif spoil == "other version":
        version = "0.2.0"
    elif spoil == "revoked":
        revoke_key(room.settings, next(iter(only(anna))))
        assert only(room) == frozenset(room.keyring.trust.promote), "nobody here can make her a new key"
    else:
        approved(anna, version="0.2.0")
        promote(room.store, room.keyring, plan(room, version="0.2.0"))
    with pytest.raises(Refused, match="operators sign it"):
        plan(room, now=now, version=version)


def test_an_approval_that_embeds_another_promotion_counts_for_nothing(room, anna) -> None:
    image = room.publish()
    other = room.publish("0.2.0", cmdline="debug")
    foreign = approved(anna, version="0.2.0")
    forged = foreign.model_copy(update={"version": "0.1.0"}).model_dump(mode="json")
    anna.say(image.id, APPROVAL, forged, role="promote")
    with pytest.raises(Refused, match="operators sign it"):
        plan(room)
    assert other.id != image.id


def test_a_promotion_with_one_signature_is_taken_by_no_host_of_production(room, anna) -> None:
    image = room.publish()
    by_hand = {"channel": "production", "sequence": 1, "expires": NOW + 86400, "by": "x", "image_json": "0" * 64}
    room.say(image.id, PROMOTION, by_hand, role="promote")
    with pytest.raises(Refused, match="2 operators sign what production takes, 1 signed its promotion"):
        load_allowed(room.store, "demo", "0.1.0", trust=room.keyring.trust, environment=PRODUCTION)


def test_the_root_asks_for_two_whatever_a_manifest_says(room, anna) -> None:
    room.publish()
    lax = Rules("production", "production", allow_standins=False, needs_cve_gate=False, keys=1)
    assert room.keyring.trust.promotion_keys == 2
    with pytest.raises(Refused, match="2 operators sign it"):
        plan_promotion(room.store, room.keyring, lax, "demo", "0.1.0", expires_days=7, now=NOW)
    renew_trust(room.settings, promotion_keys=1)
    assert plan_promotion(room.store, room.keyring, lax, "demo", "0.1.0", expires_days=7, now=NOW).approved_by == ()


def test_hosts_count_the_keys_themselves(room, anna) -> None:
    image = room.publish()
    held = host_trust.open_pinned(room.keyring.envelope, room.keyring.root_id)
    assert held.promotion_keys == 2
    approved(anna)
    promote(room.store, room.keyring, plan(room))
    _, envelope = envelope_of(room, image.id)
    twice = {**envelope, "signatures": [envelope["signatures"][0]] * 2}
    assert admission.dsse.count_signers(envelope, STATEMENT_TYPE, held.promoters) == 2
    assert admission.dsse.count_signers(twice, STATEMENT_TYPE, held.promoters) == 1


def test_an_operator_rotates_their_own_key_and_no_other(room, anna) -> None:
    old = only(room)
    rotated = rotate_key(room.settings, "promote").trust
    assert set(rotated.retired.promote) == old
    assert only(anna) < set(rotated.promote)
    assert len(rotated.promote) == 2
    (room.settings.keys_dir / "promote.key").unlink()
    with pytest.raises(Refused, match="2 operators have a promote key"):
        rotate_key(room.settings, "promote")


def test_a_retired_key_approves_nothing(room, anna) -> None:
    """An operator who kept the old key beside the new one would be two."""
    room.publish()
    approved(room)
    rotate_key(room.settings, "promote")
    with pytest.raises(Refused, match="operators sign it"):
        plan(room)


def test_what_a_rotated_job_key_said_of_an_image_still_holds(room) -> None:
    image = room.publish()
    said = {"environment": "staging", "version": "0.1.0", "hosts": ["a"], "soak_s": 1, "committed_at": 1}
    room.say(image.id, "https://github.com/qtrade/qtrade/attestation/rollout/v1", said, role="job")
    rotated = rotate_key(room.settings, "job").trust
    assert len(verify_statements(image.id, room.store.attestations(image.id), rotated).rollouts) == 1
    revoked = revoke_key(room.settings, next(iter(rotated.retired.job))).trust
    assert verify_statements(image.id, room.store.attestations(image.id), revoked).rollouts == ()


def test_what_is_admitted_is_a_new_public_key_of_no_lab(room, anna, tmp_path) -> None:
    with pytest.raises(ConflictError, match="has the key"):
        admit_key(room.settings, tmp_path / "anna.pem")
    (tmp_path / "job.pem").write_text(load_keyring(room.settings).signer("job").public.pem)
    with pytest.raises(ConflictError, match="has the key"):
        admit_key(room.settings, tmp_path / "job.pem")
    (tmp_path / "text.pem").write_text("-----BEGIN NOTHING-----")
    with pytest.raises(BadInput, match="holds no public key"):
        admit_key(room.settings, tmp_path / "text.pem")
    with pytest.raises(BadInput, match="holds no public key"):
        admit_key(room.settings, tmp_path / "missing.pem")
    gone = next(iter(only(anna)))
    revoke_key(room.settings, gone)
    with pytest.raises(Refused, match="was revoked"):
        admit_key(room.settings, tmp_path / "anna.pem")
    lab = make_settings(tmp_path / "lab")
    ensure_keyring(lab)
    (tmp_path / "eve.pem").write_text(make_key(tmp_path / "eve.key").public.pem)
    with pytest.raises(Refused, match="a lab has one operator"):
        admit_key(lab, tmp_path / "eve.pem")


def test_whoever_has_no_promote_key_approves_nothing(room) -> None:
    image = room.publish()
    (room.settings.keys_dir / "promote.key").unlink()
    before = json.dumps(room.store.attestations(image.id))
    with pytest.raises(NotFound, match="there is no promote key"):
        approved(room)
    assert json.dumps(room.store.attestations(image.id)) == before
