"""What changed between two locks, and the alarm for other bytes at the same version."""

import pytest

from bake.lock.difference import Change, Kind, check_alarms, compare_locks
from bake.lock.document import Lock, LockedBuild, LockedCollection, LockedFile
from qtrade.errors import TrustError
from tests.fakes.examples import sha
from tests.fakes.locks import make_package

pytestmark = pytest.mark.unit


def make(**changes) -> Lock:
    return Lock(**{"recipe": "demo", "suite": "trixie", "wants": {}, **changes})


def file_of(version: str, content: str) -> LockedFile:
    return LockedFile(version=version, address="a", file="f", sha256=sha(content), size=1, digest_from="first fetch")


def build_of(key: str, content: str) -> LockedBuild:
    digests = {"key": sha(key), "sha256": sha(content), "provenance": sha("p")}
    return LockedBuild(version="1", file="b.tar", size=1, **digests)


def test_everything_is_new_without_an_old_lock() -> None:
    new = make(base=(make_package("udev"),), components={"part": file_of("1", "x")})
    assert [str(change) for change in compare_locks(None, new)] == ["+ base: udev 1.0", "+ component: part 1"]


def test_what_changed_is_listed_part_by_part() -> None:
    old = make(
        base=(make_package("libc6"), make_package("udev"), make_package("same")),
        layers={"app": (make_package("jq"),), "gone": (make_package("old"),)},
        components={"part": file_of("1", "x"), "dropped": file_of("3", "y")},
        collections={"community.general": LockedCollection(version="1", sha256=sha("c"))},
    )
    new = make(
        base=(make_package("libc6", "2.0"), make_package("new"), make_package("same")),
        layers={"app": (make_package("jq", sha256=sha("other bytes")),)},
        components={"part": file_of("2", "z")},
        collections={"community.general": LockedCollection(version="2", sha256=sha("d"))},
    )
    assert [str(change) for change in compare_locks(old, new)] == [
        "  base: libc6 1.0 -> 2.0",
        "+ base: new 1.0",
        "- base: udev 1.0",
        f"! layer app: jq has other bytes at the same version: {sha('jq 1.0')} -> {sha('other bytes')}",
        "- layer gone: old 1.0",
        "- component: dropped 3",
        "  component: part 1 -> 2",
        "  collection: community.general 1 -> 2",
    ]
    assert compare_locks(new, new) == ()


def test_a_build_from_other_inputs_is_no_alarm_and_one_from_the_same_is() -> None:
    old = make(components={"built": build_of("k", "x")})
    (other_inputs,) = compare_locks(old, make(components={"built": build_of("k2", "y")}))
    (same_inputs,) = compare_locks(old, make(components={"built": build_of("k", "y")}))
    assert (other_inputs.kind, same_inputs.kind) == (Kind.VERSION, Kind.CHANGED)


def test_other_bytes_are_an_alarm_until_they_are_accepted() -> None:
    changes = [Change("component", name, Kind.CHANGED, "a", "b") for name in ("one", "two")]
    changes.append(Change("base", "three", Kind.VERSION, "1", "2"))
    with pytest.raises(TrustError, match="1 thing") as caught:
        check_alarms(changes, {"one"})
    assert "two" in caught.value.details
    assert caught.value.resolution.endswith("--accept-changed two")
    check_alarms(changes, {"one", "two"})
    check_alarms(changes[2:], ())
