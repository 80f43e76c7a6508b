"""What every kind of `Objects` must do: a class of tests, run on each kind by the modules that inherit it."""

import hashlib
import threading
import time

import pytest

from qtrade.errors import TrustError
from qtrade.store.objects import Changed, Exists, Missing, Objects


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class ObjectsContract:
    """Inherit, and give a fixture `objects`."""

    def test_what_was_written_is_read(self, objects: Objects) -> None:
        objects.put("a/one.json", b"1")
        objects.put("a/one.json", b"22")
        assert objects.get("a/one.json")[0] == b"22"
        assert objects.size("a/one.json") == 2

    def test_what_is_not_there_is_missing(self, objects: Objects, tmp_path) -> None:
        with pytest.raises(Missing, match="a/ghost"):
            objects.get("a/ghost")
        assert objects.size("a/ghost") is None
        with pytest.raises(Missing):
            objects.fetch_file("a/ghost", tmp_path / "ghost", sha(b"x"), 1)
        assert list(tmp_path.glob("ghost")) == []
        objects.delete("a/ghost")
        assert objects.list("a/") == ()

    def test_new_is_written_once(self, objects: Objects) -> None:
        objects.put_new("v/1", b"first")
        with pytest.raises(Exists):
            objects.put_new("v/1", b"second")
        objects.put_new("v/1", b"first")
        assert objects.get("v/1")[0] == b"first"

    def test_compare_and_swap_takes_the_etag_that_was_read(self, objects: Objects) -> None:
        objects.put_if("c/1", b"one", None)
        with pytest.raises(Changed):
            objects.put_if("c/1", b"other", None)
        _, etag = objects.get("c/1")
        objects.put_if("c/1", b"two", etag)
        with pytest.raises(Changed):
            objects.put_if("c/1", b"three", etag)
        assert objects.get("c/1")[0] == b"two"
        objects.delete("c/1")
        with pytest.raises(Changed):
            objects.put_if("c/1", b"three", etag)

    def test_of_many_who_write_new_or_swap_at_once_one_wins(self, objects: Objects) -> None:
        objects.put("c/race", b"start")
        _, etag = objects.get("c/race")
        won: list[str] = []
        lost: list[str] = []
        barrier = threading.Barrier(8)

        def write(name: str) -> None:
            barrier.wait()
            try:
                if name.startswith("new"):
                    objects.put_new("v/race", name.encode())
                else:
                    objects.put_if("c/race", name.encode(), etag)
            except (Exists, Changed):
                lost.append(name)
            else:
                won.append(name)

        threads = [threading.Thread(target=write, args=(f"{kind}-{n}",)) for n in range(4) for kind in ("new", "swap")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(name.partition("-")[0] for name in won) == ["new", "swap"]
        assert len(lost) == 6
        assert {objects.get("v/race")[0].decode(), objects.get("c/race")[0].decode()} == set(won)

    def test_listings_are_of_one_folder_in_order(self, objects: Objects) -> None:
        for key in ("l/b", "l/a/2", "l/a/10", "lx/c"):
            objects.put(key, b"x" * 3)
        before = time.time()
        entries = objects.list("l/")
        assert [entry.key for entry in entries] == ["l/a/10", "l/a/2", "l/b"]
        assert {entry.size for entry in entries} == {3}
        assert all(abs(entry.modified_s - before) < 120 for entry in entries)
        objects.delete("l/b")
        assert [entry.key for entry in objects.list("l/")] == ["l/a/10", "l/a/2"]

    def test_names_with_every_letter_that_a_version_may_have(self, objects: Objects) -> None:
        name = "versions/demo/1.0~rc1+b:2_x-3.json"
        objects.put_new(name, b"x")
        assert objects.get(name)[0] == b"x"
        assert [entry.key for entry in objects.list("versions/demo/")] == [name]
        objects.delete(name)
        assert objects.size(name) is None

    @pytest.mark.parametrize("size", [0, 10, 12 << 20])
    def test_files_go_in_and_come_out_whole(self, objects: Objects, tmp_path, size) -> None:
        content = bytes(range(256)) * (size // 256 + 1)
        content = content[:size]
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(content)
        objects.put_file("blobs/x", source, sha(content))
        objects.put_file("blobs/x", source, sha(content))
        assert source.read_bytes() == content
        objects.fetch_file("blobs/x", target, sha(content), size)
        assert target.read_bytes() == content
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["source", "target"]

    @pytest.mark.parametrize("size", [10, 12 << 20])
    def test_a_file_that_is_not_what_its_digest_says_is_not_taken(self, objects: Objects, tmp_path, size) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x" * size)
        with pytest.raises(TrustError, match="not what its digest says"):
            objects.put_file("blobs/x", source, sha(b"other"))
        assert objects.size("blobs/x") is None
        assert objects.list("blobs/") == ()

    def test_an_object_that_is_not_what_its_digest_says_is_not_given(self, objects: Objects, tmp_path) -> None:
        objects.put("blobs/x", b"x" * 10)
        with pytest.raises(TrustError):
            objects.fetch_file("blobs/x", tmp_path / "target", sha(b"other"), 10)
        assert not (tmp_path / "target").exists()
        assert not list(tmp_path.glob("*.part"))

    def test_sweeping_leaves_what_is_whole(self, objects: Objects) -> None:
        objects.put("a/b", b"x")
        assert objects.sweep(-1.0) == 0
        assert objects.get("a/b")[0] == b"x"
