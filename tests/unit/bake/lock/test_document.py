"""The lock file: what is written is read again, entries are lines, and damage is named."""

import json

import pytest

from bake.lock.check import locked_blobs
from bake.lock.document import (
    Lock,
    LockedBuild,
    LockedCollection,
    LockedFile,
    digest_packages,
    read_lock,
    render_lock,
    write_lock,
)
from qtrade.errors import BadInput
from tests.fakes.examples import make_settings, sha
from tests.fakes.locks import make_package

pytestmark = pytest.mark.unit

FILE = LockedFile(version="1", address="pool/x.deb", file="x.deb", sha256=sha("x"), size=3, digest_from="first fetch")
BUILD = LockedBuild(
    version="2", tag="v2", commit="a" * 40, key=sha("k"), file="b.tar", sha256=sha("b"), size=9, provenance=sha("p")
)


def full_lock() -> Lock:
    return Lock(
        recipe="demo",
        suite="forky",
        wants={"base": sha("base")},
        tools=(make_package("tar"), make_package("libc6")),
        base=(make_package("libc6"), make_package("udev")),
        layers={"app": (make_package("jq"),), "empty": ()},
        builders={"built": (make_package("gcc"), make_package("libc6"))},
        components={"file": FILE, "built": BUILD},
        collections={"qtrade.image": LockedCollection(version="1.0.0")},
    )


def test_what_is_written_is_read_again(tmp_path) -> None:
    path = tmp_path / "deep/demo.lock.json"
    write_lock(full_lock(), path)
    assert read_lock(path) == full_lock()
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert read_lock(tmp_path / "none") is None


def test_each_entry_is_one_line_and_keys_are_sorted() -> None:
    lines = render_lock(full_lock()).splitlines()
    for name in ("libc6", "udev", "jq", "gcc"):
        (line,) = [line for line in lines if f'"name": "{name}"' in line][:1]
        assert json.loads(line.strip().rstrip(","))["name"] == name
    assert len([line for line in lines if '"kind"' in line]) == 2
    document = json.loads("\n".join(lines))
    assert list(document) == sorted(document)
    assert json.loads(render_lock(Lock(recipe="demo", suite="trixie", wants={})))["base"] == []


def test_one_changed_package_is_one_changed_line() -> None:
    before = full_lock()
    after = before.model_copy(update={"base": (make_package("libc6", "2.0"), before.base[1])})
    old, new = set(render_lock(before).splitlines()), set(render_lock(after).splitlines())
    assert (len(old - new), len(new - old)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Invalid JSON"),
        ('{"recipe": "demo", "suite": "trixie", "wants": {}, "surprise": 1}', "surprise"),
        ('{"recipe": "demo", "suite": "trixie", "wants": {"base": "xyz"}}', "wants.base"),
        ('{"schema_version": 2, "recipe": "demo", "suite": "trixie", "wants": {}}', "schema_version"),
    ],
)
def test_a_damaged_lock_is_named_with_the_field(tmp_path, text, words) -> None:
    path = tmp_path / "demo.lock.json"
    path.write_text(text)
    with pytest.raises(BadInput, match="is not a valid lock") as caught:
        read_lock(path)
    assert str(path) in caught.value.brief
    assert words in caught.value.details


def test_all_packages_are_listed_once_and_by_part() -> None:
    lock = full_lock()
    assert sorted(package.name for package in lock.all_packages()) == ["gcc", "jq", "libc6", "tar", "udev"]
    assert set(lock.packages()) == {"base", "layer app", "layer empty", "builder built", "tools"}
    by_suite = {suite: sorted(item.name for item in packages) for suite, packages in lock.by_suite().items()}
    assert by_suite == {"forky": ["gcc", "jq", "libc6", "udev"], "trixie": ["libc6", "tar"]}


def test_the_digest_of_a_part_follows_its_bytes_and_not_their_order() -> None:
    one, two = make_package("a"), make_package("b")
    assert digest_packages((one, two)) == digest_packages((two, one))
    assert digest_packages((one,)) != digest_packages((one.model_copy(update={"sha256": sha("other")}),))
    moved = one.model_copy(update={"filename": "pool/elsewhere/a_1.0_amd64.deb"})
    assert digest_packages((one,)) == digest_packages((moved,))
    assert set(full_lock().package_fields()) == {"base", "app", "empty"}


def test_the_blobs_of_builds_are_known_from_all_locks(tmp_path) -> None:
    settings = make_settings(tmp_path)
    assert locked_blobs(settings) == frozenset()
    write_lock(full_lock(), settings.project / "manifests/images/demo.lock.json")
    other = full_lock().model_copy(update={"components": {"x": BUILD.model_copy(update={"sha256": sha("other")})}})
    write_lock(other, settings.state_dir / "locks/tiny.lock.json")
    assert locked_blobs(settings) == {BUILD.sha256, BUILD.provenance, sha("other")}
