"""Versions are promoted and revoked: with both keys, by compare-and-swap, and for flash and push to see."""

import time

import pytest

from flash.trust import check_not_revoked, load_allowed, load_installed
from qtrade.errors import ConflictError, NotFound, Refused, TrustError, UsageError
from qtrade.manifest.image import image_id
from qtrade.store import ChannelPointer
from qtrade.store.history import History, Kind, Outcome
from qtrade.trust.keyring import init_keys, revoke_key
from qtrade.trust.policy import CHANNELS
from qtrade.trust.release import (
    is_revoked,
    parse_channel,
    plan_promotion,
    plan_revocation,
    promote,
    revoke,
)
from qtrade.trust.statements import CVE, TEST, verify_statements
from tests.fakes.examples import make_environment, make_image, make_settings, sha
from tests.fakes.releases import Room, blobs_of, rules

pytestmark = pytest.mark.unit

NOW = int(time.time())
PRODUCTION = make_environment(name="production", allow_standins=False, promotion={"keys": 1})


@pytest.fixture
def room(tmp_path) -> Room:
    settings = make_settings(tmp_path)
    init_keys(settings, root_key=tmp_path / "usb/root.key")
    return Room(settings)


def plan(room, version="0.1.0", channel="production", **changes):
    return plan_promotion(room.store, room.keyring, rules(channel, **changes), "demo", version, expires_days=7, now=NOW)


def raise_version(room, version="0.1.0", channel="production"):
    made = plan(room, version, channel)
    promote(room.store, room.keyring, made)
    return made


def test_a_promotion_moves_the_channel_and_says_so(room) -> None:
    image = room.publish()
    raise_version(room)
    assert room.store.channel("demo", "production") == ChannelPointer("0.1.0", image.id, 1)
    found = verify_statements(image.id, room.store.attestations(image.id), room.keyring.trust).promotions
    assert [(one.channel, one.sequence, one.expires) for one in found] == [("production", 1, NOW + 7 * 86400)]
    assert found[0].by


def test_a_promotion_is_on_record_with_what_the_channel_led_to_before(room) -> None:
    room.publish()
    raise_version(room, "0.1.0", "dev")
    (past,) = History(room.store.objects).read()
    deploy = past.deploy
    assert (deploy.kind, deploy.environment, deploy.host, deploy.version) == (Kind.PROMOTE, "development", "", "0.1.0")
    assert {name: deploy.inputs[name] for name in ("channel", "sequence", "before")} == {
        "channel": "dev", "sequence": 1, "before": "",
    }  # fmt: skip
    assert (past.ending.outcome, past.ending.version) == (Outcome.DONE, "0.1.0")


def test_each_promotion_has_the_next_number_of_its_channel(room) -> None:
    room.publish()
    room.publish("0.2.0", cmdline="debug")
    assert [raise_version(room, version).sequence for version in ("0.1.0", "0.2.0", "0.1.0")] == [1, 2, 3]
    assert raise_version(room, channel="staging").sequence == 1


def test_a_production_host_takes_what_both_keys_signed(room) -> None:
    image = room.publish()
    with pytest.raises(Refused, match="must not run in production: it is not promoted to production"):
        load_allowed(room.store, "demo", "0.1.0", trust=room.keyring.trust, environment=PRODUCTION)
    raise_version(room)
    loaded = load_allowed(room.store, "demo", "0.1.0", trust=room.keyring.trust, environment=PRODUCTION)
    assert (loaded.image, loaded.sequence) == (image, 1)
    assert loaded.promotion in room.store.attestations(image.id)


def test_revoking_the_promote_key_takes_its_promotions_away(room, tmp_path) -> None:
    room.publish()
    raise_version(room)
    old = next(iter(room.keyring.trust.promote))
    revoke_key(room.settings, old, root_key=tmp_path / "usb/root.key")
    with pytest.raises(Refused, match="not promoted"):
        load_allowed(room.store, "demo", "0.1.0", trust=room.keyring.trust, environment=PRODUCTION)


@pytest.mark.parametrize("channel", ["staging", "production"])
def test_what_was_not_boot_tested_goes_nowhere_past_development(room, channel) -> None:
    image = room.publish(tested=False)
    with pytest.raises(Refused, match=f"cannot be promoted to {channel}: it was not boot-tested"):
        plan(room, channel=channel)
    raise_version(room, channel="dev")
    room.say(image.id, TEST, {"kind": "boot", "firmware": "uefi", "passed": True})
    with pytest.raises(Refused, match="it was not boot-tested by bios"):
        plan(room, channel=channel)
    room.say(image.id, TEST, {"kind": "boot", "firmware": "bios", "passed": True, "time": 1})
    assert plan(room, channel=channel)
    room.say(image.id, TEST, {"kind": "boot", "firmware": "bios", "passed": False, "failures": ["x"]})
    with pytest.raises(Refused, match="its last boot test by bios failed") as caught:
        plan(room, channel=channel)
    assert "qtrade images test" in caught.value.resolution
    room.say(image.id, TEST, {"kind": "boot", "firmware": "bios", "passed": True, "time": 2})
    raise_version(room, channel=channel)


def test_standins_go_nowhere_past_development(room) -> None:
    room.publish(components=make_image().components)
    with pytest.raises(Refused, match="it holds stand-ins: agent"):
        plan(room, channel="staging")
    assert plan(room, channel="dev", standins=True).sequence == 1


def test_the_cve_gate_is_asked_for_where_the_environment_asks(room) -> None:
    image = room.publish()
    with pytest.raises(Refused, match="did not go through the CVE gate"):
        plan(room, cve=True)
    room.say(image.id, CVE, {"snapshot": sha("s"), "snapshot_time": NOW, "open": [], "waived": []})
    assert plan(room, cve=True).sequence == 1
    room.say(image.id, CVE, {"snapshot": sha("t"), "snapshot_time": NOW + 1, "open": ["CVE-1"], "waived": []})
    with pytest.raises(Refused, match="not waived: CVE-1"):
        plan(room, cve=True)


def test_an_image_that_is_not_whole_is_not_promoted(room) -> None:
    digest = blobs_of(room.publish())["app"]
    (room.store.root / "blobs" / digest).unlink()
    with pytest.raises(NotFound, match="lacks 1 of its blobs") as caught:
        plan(room)
    assert digest in caught.value.details


def test_without_the_promote_key_nothing_is_promoted(room) -> None:
    room.publish()
    made = plan(room)
    (room.settings.keys_dir / "promote.key").unlink()
    with pytest.raises(NotFound, match="there is no promote key"):
        promote(room.store, room.keyring, made)
    assert room.store.channel("demo", "production") is None


def test_an_image_of_a_revoked_build_key_is_not_promoted(room, tmp_path) -> None:
    room.publish()
    revoke_key(room.settings, next(iter(room.keyring.trust.build)), root_key=tmp_path / "usb/root.key")
    with pytest.raises(TrustError, match="which is revoked"):
        plan(room)


def test_of_two_who_move_a_channel_one_is_told_so_and_leaves_nothing(room) -> None:
    first, second = room.publish(), room.publish("0.2.0", cmdline="debug")
    plans = [plan(room, version) for version in ("0.1.0", "0.2.0")]
    promote(room.store, room.keyring, plans[1])
    before = room.store.attestations(first.id)
    with pytest.raises(ConflictError, match="somebody else moved production"):
        promote(room.store, room.keyring, plans[0])
    assert room.store.attestations(first.id) == before, "the loser's promotion would let hosts in"
    assert room.store.channel("demo", "production").image_id == second.id


def test_a_revoked_version_is_promoted_flashed_and_pushed_to_no_more(room) -> None:
    image = room.publish()
    raise_version(room)
    made = plan_revocation(room.store, "demo", "0.1.0", reason="eats ledgers")
    assert made.channels == ("production",)
    revoke(room.store, room.keyring, made, now=NOW)
    assert is_revoked(room.store, room.keyring, image.id)
    for use in (
        lambda: plan(room),
        lambda: load_allowed(room.store, "demo", "0.1.0", trust=room.keyring.trust, environment=make_environment()),
        lambda: load_installed(room.store, "demo", "0.1.0", room.keyring.trust),
        lambda: check_not_revoked(room.store, image.id, room.keyring.trust),
    ):
        with pytest.raises(Refused, match="it was revoked: eats ledgers"):
            use()


def test_descendants_hold_the_layers_at_fault(room) -> None:
    image = room.publish()
    other_app = image.layers[1].model_copy(update={"digest": blobs_of(image)["base"]})
    room.publish("0.2.0", cmdline="debug")
    room.publish("0.3.0", layers=(image.layers[0], other_app))
    found = plan_revocation(room.store, "demo", "0.1.0", reason="x", layers=("app",), descendants=True)
    assert list(found.versions) == ["0.1.0", "0.2.0"]
    found = plan_revocation(room.store, "demo", "0.1.0", reason="x", layers=("base",), descendants=True)
    assert list(found.versions) == ["0.1.0", "0.2.0", "0.3.0"]
    revoke(room.store, room.keyring, found, now=NOW)
    assert all(is_revoked(room.store, room.keyring, digest) for digest in found.versions.values())
    said = verify_statements(image.id, room.store.attestations(image.id), room.keyring.trust).revocations
    assert said[0].descendants == ("0.2.0", "0.3.0")


def test_without_descendants_only_the_named_version_is_revoked(room) -> None:
    room.publish()
    room.publish("0.2.0", cmdline="debug")
    assert list(plan_revocation(room.store, "demo", "0.1.0", reason="x").versions) == ["0.1.0"]


@pytest.mark.parametrize(
    ("layers", "descendants", "message"),
    [
        ((), True, "the layers at fault are not named"),
        (("ghost",), True, "has no layer ghost"),
        (("app",), False, "that descendants share"),
    ],
)
def test_layers_at_fault_are_named_right(room, layers, descendants, message) -> None:
    room.publish()
    with pytest.raises(UsageError, match=message):
        plan_revocation(room.store, "demo", "0.1.0", reason="x", layers=layers, descendants=descendants)


def test_whoever_bakes_may_revoke_too(room) -> None:
    image = room.publish()
    (room.settings.keys_dir / "promote.key").unlink()
    revoke(room.store, room.keyring, plan_revocation(room.store, "demo", "0.1.0", reason="x"), now=NOW)
    assert is_revoked(room.store, room.keyring, image.id)


def test_a_revocation_is_of_the_list_whatever_the_document_claims(room) -> None:
    image = room.publish()
    path = room.store.root / "versions/demo/0.1.0.json"
    path.write_text(path.read_text().replace(image.id, "0" * 64))
    found = plan_revocation(room.store, "demo", "0.1.0", reason="x").versions
    assert found == {"0.1.0": image_id(image.list_text())}


def test_channels_have_names() -> None:
    assert tuple(parse_channel(name) for name in CHANNELS) == CHANNELS
    with pytest.raises(UsageError, match="there is no channel prod"):
        parse_channel("prod")
