"""What garbage collection keeps and deletes: the rule by itself, and the whole on stores."""

import base64
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qtrade.errors import ConflictError, NotFound
from qtrade.manifest import Image
from qtrade.store import BlobRecord, ChannelPointer, LocalStore, PublishedImage, claims
from qtrade.store.gc import (
    AttestedFact,
    Facts,
    Garbage,
    RecordFact,
    Rules,
    VersionFact,
    collect,
    decide,
    plan_collection,
    render_garbage,
)
from tests.fakes.examples import make_image, sha
from tests.fakes.projects import add_blobs

pytestmark = pytest.mark.unit

DAY = 86400.0
RULES = Rules(keep=2, within_days=30, grace_s=DAY)


def version(number: int, *, days: float, recipe: str = "demo", blobs: tuple[str, ...] = ()) -> VersionFact:
    return VersionFact(recipe, f"0.{number}.0", f"id-{recipe}-{number}", days * DAY, frozenset(blobs))


def names(garbage: Garbage) -> list[str]:
    return [name for _, name, _ in garbage.versions]


@pytest.mark.parametrize(
    ("ages_days", "gone"),
    [
        ([100, 90], []),  # the last two stay, however old
        ([29, 20, 10], []),  # what is young stays, however many
        ([100, 90, 80], ["0.0.0"]),
        ([100, 31, 29, 28, 1], ["0.0.0", "0.1.0"]),
        ([30, 20, 10], []),
        ([], []),
    ],
)
def test_a_version_goes_when_it_is_beyond_the_last_and_old(ages_days, gone) -> None:
    facts = Facts(versions=tuple(version(number, days=days) for number, days in enumerate(ages_days)))
    assert names(decide(facts, RULES)) == gone


def test_each_recipe_is_counted_for_itself() -> None:
    facts = Facts(
        versions=(*(version(n, days=90 - n) for n in range(3)), *(version(n, days=90, recipe="lab") for n in range(2)))
    )
    assert decide(facts, RULES).versions == (("demo", "0.0.0", "id-demo-0"),)


OLD = tuple(version(number, days=90 - number, blobs=(f"blob-{number}", "shared")) for number in range(4))


@pytest.mark.parametrize(
    "need",
    [
        {"pointed": frozenset({("demo", "0.0.0")})},
        {"hosted": frozenset({"id-demo-0"})},
        {"claimed": claims.Claim(versions=frozenset({("demo", "0.0.0")}))},
    ],
    ids=["channel", "host", "promotion under way"],
)
def test_what_a_channel_a_host_or_a_promotion_needs_stays(need) -> None:
    blobs = {f"blob-{number}": (1, 90 * DAY) for number in range(4)} | {"shared": (1, 90 * DAY)}
    facts = Facts(versions=OLD, blobs=blobs)
    assert (names(decide(facts, RULES)), decide(facts, RULES).blobs) == (["0.0.0", "0.1.0"], ("blob-0", "blob-1"))
    kept = decide(replace(facts, **need), RULES)
    assert (names(kept), kept.blobs, kept.size) == (["0.1.0"], ("blob-1",), 1)


def test_a_version_that_cannot_be_read_stays_and_with_it_all_blobs() -> None:
    broken = VersionFact("demo", "0.0.0", "", 99 * DAY, None)
    facts = Facts(versions=(broken, *OLD[1:]), blobs={"lonely": (5, 99 * DAY)})
    garbage = decide(facts, RULES)
    assert (names(garbage), garbage.blobs) == (["0.1.0"], ())


def test_a_record_goes_with_its_blob_when_no_version_needs_it_and_no_bake_can_be_under_way() -> None:
    records = (
        RecordFact("needed", "shared", 10, 90 * DAY),
        RecordFact("young", "fresh", 10, DAY / 2),
        RecordFact("ahead of its upload", "coming", 10, 1),
        RecordFact("old", "lonely", 10, 2 * DAY),
        RecordFact("lost", "not there", 10, 2 * DAY),
        RecordFact("check", "", 10, 29 * DAY),
        RecordFact("old check", "", 10, 31 * DAY),
        RecordFact("unreadable", "unreadable", 10, 2 * DAY),
    )
    blobs = {"shared": (1, 90 * DAY), "fresh": (2, 90 * DAY), "lonely": (4, 90 * DAY), "new": (8, DAY / 2)}
    garbage = decide(Facts(versions=OLD[3:], records=records, blobs=blobs), RULES)
    assert garbage.records == ("lost", "old", "old check", "unreadable")
    assert (garbage.blobs, garbage.size) == (("lonely",), 44)


def test_what_a_lock_names_stays() -> None:
    facts = Facts(blobs={"built": (1, 99 * DAY), "lonely": (1, 99 * DAY)})
    assert decide(facts, Rules(named=frozenset({"built"}))).blobs == ("lonely",)


def test_what_a_publisher_claims_stays() -> None:
    facts = Facts(blobs={"claimed": (1, 9 * DAY), "lonely": (1, 9 * DAY)}, claimed=claims.Claim(frozenset({"claimed"})))
    assert decide(facts, RULES).blobs == ("lonely",)


def test_attestations_stay_with_their_image_and_what_they_name_with_them() -> None:
    def attested(name: str, *, is_revoked: bool = False, days: float = 90) -> AttestedFact:
        return AttestedFact((f"key-{name}",), frozenset({f"sbom-{name}"}), is_revoked, 100, days * DAY)

    facts = Facts(
        versions=OLD[2:],
        hosted=frozenset({"id-hosted"}),
        attested={
            "id-demo-2": attested("kept"),
            "id-hosted": attested("hosted"),
            "id-gone": attested("gone"),
            "id-revoked": attested("revoked", is_revoked=True),
            "id-early": attested("early", days=0.5),
        },
        blobs={f"sbom-{name}": (7, 90 * DAY) for name in ("kept", "hosted", "gone", "revoked", "early")},
    )
    garbage = decide(facts, RULES)
    assert (garbage.attestations, garbage.blobs, garbage.size) == (("key-gone",), ("sbom-gone",), 107)


# On stores: ages are made by rules, since what is written now is young.

ALL = Rules(keep=1, within_days=-1, grace_s=-1000)


@pytest.fixture
def publish(store, tmp_path):
    def _publish(number: int, **changes) -> Image:
        image = make_image(version=f"0.{number}.0", cmdline=f"n={number}", **changes)
        add_blobs(store, image, tmp_path / "new")
        store.publish(image, PublishedImage(image.to_json(), image.list_text(), b"s" * 64, {}))
        return image

    return _publish


def attest(store, image_id: str, kind: str, **predicate: str) -> None:
    payload = {"predicateType": f"https://example.org/attestation/{kind}/v1", "predicate": predicate}
    store.attest(image_id, {"payload": base64.b64encode(json.dumps(payload).encode()).decode()})


def test_a_store_is_collected_down_to_what_is_needed(store, publish, tmp_path) -> None:
    images = [publish(number) for number in range(4)]
    store.move_channel("demo", "production", ChannelPointer("0.1.0", images[1].id, 1), None)
    store.set_host_images("rpc-1", [images[2].id])
    lonely = tmp_path / "lonely"
    lonely.write_bytes(b"lonely")
    store.add_blob(lonely, sha("lonely"))
    store.add_record(BlobRecord(sha("key"), "app", sha("lonely"), 6), ["f x"])
    store._blobs.flush()
    kept_sbom, gone_sbom = store.put_document(b"kept"), store.put_document(b"gone")
    attest(store, images[1].id, "sbom", cyclonedx=kept_sbom)
    attest(store, images[0].id, "sbom", cyclonedx=gone_sbom)
    # Only the order of publication counts, and all were published in one moment: 0.3.0 is made the last.
    rules = replace(ALL, keep=0)
    store.set_host_images("rpc-2", [images[3].id])

    plan = plan_collection(store, rules)
    assert [(recipe, name) for recipe, name, _ in plan.versions] == [("demo", "0.0.0")]
    assert plan.blobs == tuple(sorted((sha("lonely"), gone_sbom)))
    assert plan.records == (sha("key"),)
    assert store.versions("demo") == ("0.0.0", "0.1.0", "0.2.0", "0.3.0")

    assert collect(store, rules, plan).versions == plan.versions
    assert store.versions("demo") == ("0.1.0", "0.2.0", "0.3.0")
    assert all(store.has_blob(digest) for image in images for digest in image.blobs())
    assert store.document(kept_sbom) == b"kept"
    assert len(store.attestations(images[1].id)) == 1
    for digest in (gone_sbom, sha("lonely")):
        assert store.objects.size(f"blobs/{digest}") is None
    assert (store.attestations(images[0].id), store.objects.list("records/")) == ((), ())
    assert plan_collection(store, rules).is_empty
    assert store.objects.list("collectors/") == ()


def test_a_version_that_was_collected_is_never_another_image(store, publish) -> None:
    old, new = publish(1), publish(2)
    store.set_host_images("rpc-1", [new.id])
    rules = replace(ALL, keep=0)
    collect(store, rules, plan_collection(store, rules))
    assert store.versions("demo") == ("0.2.0",)
    other = make_image(version="0.1.0", cmdline="other")
    with pytest.raises(ConflictError, match="exists with another id"):
        store.publish(other, PublishedImage(other.to_json(), other.list_text(), b"", {}))
    assert publish(1).id == old.id
    assert store.versions("demo") == ("0.1.0", "0.2.0")


def test_a_revocation_outlives_its_version(store, publish) -> None:
    old, new = publish(1), publish(2)
    attest(store, old.id, "revocation", reason="leaks")
    store.set_host_images("rpc-1", [new.id])
    rules = replace(ALL, keep=0)
    collect(store, rules, plan_collection(store, rules))
    assert store.versions("demo") == ("0.2.0",)
    assert len(store.attestations(old.id)) == 1


def test_what_is_needed_since_it_was_agreed_stays(store, publish) -> None:
    images = [publish(number) for number in range(2)]
    rules = replace(ALL, keep=0)
    plan = plan_collection(store, rules)
    assert len(plan.versions) == 2
    store.move_channel("demo", "dev", ChannelPointer("0.1.0", images[1].id, 1), None)
    collect(store, rules, plan)
    assert store.versions("demo") == ("0.1.0",)
    store.open_blob(images[1].kernel.digest)


def test_only_what_was_agreed_goes(store, publish) -> None:
    publish(1)
    rules = replace(ALL, keep=0)
    collect(store, rules, Garbage())
    assert store.versions("demo") == ("0.1.0",)


def test_a_publisher_finds_out_that_a_blob_was_collected(store, publish, tmp_path) -> None:
    image = publish(1)
    rules = replace(ALL, keep=0)
    collect(store, rules, plan_collection(store, rules))
    later = make_image(version="0.2.0")
    with pytest.raises(NotFound, match="the store has no blob"):
        store.publish(later, PublishedImage(later.to_json(), later.list_text(), b"", {}))
    assert store.objects.size(f"blobs/{image.kernel.digest}") is None


def test_the_default_rules_touch_nothing_young(store, publish) -> None:
    for number in range(3):
        publish(number)
    assert plan_collection(store, Rules(keep=1)).is_empty


def test_marks_of_killed_processes_are_swept(tmp_path) -> None:
    store = LocalStore(tmp_path)
    for kind in ("claims", "collectors"):
        for name in ("old", "new"):
            store.objects.put(f"{kind}/{name}", b'{"blobs": ["b"], "versions": []}')
        age(tmp_path / kind / "old", claims.STALE_S + 60)
    assert claims.read_claims(store.objects).blobs == {"b"}
    claims.sweep_marks(store.objects)
    assert [entry.key for entry in store.objects.list("claims/")] == ["claims/new"]
    with (
        pytest.raises(ConflictError, match="is being collected"),
        claims.claim(store.objects, claims.Claim(), patience_s=0),
    ):
        pass


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_people_see_each_version_and_the_bytes() -> None:
    garbage = Garbage((("demo", "0.1.0", "a" * 64),), ("r",), (), ("b", "c"), 3 << 20)
    assert render_garbage(garbage, verb="would delete").splitlines() == [
        "would delete: 2 blobs, 1 records, 0 attestations; 3.0 MiB",
        "  would delete  demo 0.1.0  aaaaaaaaaaaa",
    ]


def test_a_version_that_cannot_be_read_is_not_collected_on_a_store(store, publish) -> None:
    image, new = publish(1), publish(2)
    store.set_host_images("rpc-1", [new.id])
    store.objects.put("versions/demo/0.1.0.json", b"{}")
    rules = replace(ALL, keep=0)
    assert plan_collection(store, rules).is_empty
    collect(store, rules, Garbage((("demo", "0.1.0", image.id),), (), (), tuple(image.blobs())))
    assert store.versions("demo") == ("0.1.0", "0.2.0")
    assert store.has_blob(image.kernel.digest)
