"""Provenance names every byte that a bake took: by the lock, which has the digests."""

import hashlib

import pytest

from bake.lock.check import lock_path
from bake.lock.document import LockedBuild
from bake.resolved import resolved_dependencies
from tests.fakes.examples import make_recipe, make_settings, sha
from tests.fakes.locks import make_lock, make_package, write_lock_of

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path):
    settings = make_settings(tmp_path)
    for name in ("agent", "parts"):
        (settings.project / name).mkdir()
    return settings


def test_lock_packages_builds_and_tools_are_named_with_their_digests(settings) -> None:
    built = LockedBuild(version="2", key=sha("key"), file="p.tar", sha256=sha("p"), size=1, provenance=sha("proof"))
    base = (make_package("g++", "4:14.2-1+b1"), make_package("libc6"))
    lock = make_lock(settings, make_recipe(), base=base, components={"parts": built})
    _, compiler, libc, chrony, *tools, parts = resolved_dependencies(settings, make_recipe(), lock)
    assert compiler == {
        "name": "g++_4:14.2-1+b1_amd64.deb",
        "uri": "pkg:deb/debian/g%2B%2B@4:14.2-1%2Bb1?arch=amd64&distro=trixie",
        "digest": {"sha256": sha("g++ 4:14.2-1+b1")},
        "annotations": {"part": "base"},
    }
    assert [one["annotations"]["part"] for one in (libc, chrony)] == ["base", "layer host"]
    assert {one["annotations"]["part"] for one in tools} == {"tools"}
    assert parts == {"name": "provenance of parts", "digest": {"sha256": sha("proof")}}


def test_the_digest_of_the_lock_is_that_of_its_file_and_twice_is_the_same(settings) -> None:
    recipe = make_recipe()
    lock = write_lock_of(settings, recipe)
    first = resolved_dependencies(settings, recipe, lock)
    content = lock_path(settings, recipe).read_bytes()
    assert first[0] == {"name": "demo.lock.json", "digest": {"sha256": hashlib.sha256(content).hexdigest()}}
    assert resolved_dependencies(settings, recipe, lock) == first
    assert len(first) == 1 + sum(len(part) for part in lock.packages().values())
