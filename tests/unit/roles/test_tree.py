"""qtrade.image.tree: what it writes, what check mode says, and that check mode writes nothing."""

import grp
import importlib.util
import os
import pwd
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.unit

PLUGINS = Path(__file__).resolve().parents[3] / "ansible/collections/ansible_collections/qtrade/image/plugins"
ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
MINE = {"*": ME}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tree_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path, monkeypatch) -> ModuleType:
    module = load(PLUGINS / "modules/tree.py")
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(module, "ROOT", root)
    return module


def snapshot(root: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (facts.st_mode, facts.st_mtime_ns, facts.st_ino, content)
    return found


def lay(tree: ModuleType, **options: Any) -> Any:
    """Lay a role of one file, one link, one directory and one component; return the tree."""
    attributes = {**MINE, "etc/secret": {**ME, "mode": "0600"}}
    made = tree.Tree(attributes, {}, **options)
    made.attempt("etc/old", lambda: made.remove("etc/old*"))
    made.attempt("srv/data", lambda: made.make_directory("srv/data"))
    made.attempt("etc/conf", lambda: made.write_file("etc/conf", b"one\ntwo\n", "0644"))
    made.attempt("etc/secret", lambda: made.write_file("etc/secret", b"x", "0644"))
    made.attempt("opt/part", lambda: made.copy("opt/part", tree.ROOT.parent / "part"))
    made.attempt("etc/link", lambda: made.make_link("etc/link", "/run/x"))
    return made


@pytest.fixture
def laid(tree) -> Path:
    """A root that is as the role wants it."""
    part = tree.ROOT.parent / "part/bin"
    part.mkdir(parents=True)
    (part / "tool").write_bytes(b"\0tool")
    (part / "tool").chmod(0o755)
    lay(tree)
    return tree.ROOT


def test_it_lays_files_links_directories_and_components(laid) -> None:
    assert (laid / "etc/conf").read_text() == "one\ntwo\n"
    assert stat.S_IMODE((laid / "etc/secret").stat().st_mode) == 0o600
    assert str((laid / "etc/link").readlink()) == "/run/x"
    assert (laid / "srv/data").is_dir()
    assert stat.S_IMODE((laid / "opt/part/bin/tool").stat().st_mode) == 0o755


def test_the_second_time_nothing_is_written(tree, laid) -> None:
    before = snapshot(laid)
    assert lay(tree).written == []
    assert snapshot(laid) == before


def plant_content(root: Path) -> str:
    (root / "etc/conf").write_text("one\n2\n")
    return "etc/conf"


def plant_mode(root: Path) -> str:
    (root / "etc/secret").chmod(0o644)
    return "etc/secret"


def plant_link(root: Path) -> str:
    (root / "etc/link").unlink()
    (root / "etc/link").write_text("a file\n")
    return "etc/link"


def plant_directory(root: Path) -> str:
    (root / "srv/data").rmdir()
    return "srv/data"


def plant_leftover(root: Path) -> str:
    (root / "etc/old.conf").write_text("key\n")
    return "etc/old.conf"


def plant_binary(root: Path) -> str:
    (root / "opt/part/bin/tool").write_bytes(b"\0evil")
    return "opt/part/bin/tool"


PLANTS = [plant_content, plant_mode, plant_link, plant_directory, plant_leftover, plant_binary]


@pytest.mark.parametrize("plant", PLANTS)
def test_check_mode_names_the_drift_and_writes_nothing(tree, laid, plant) -> None:
    path = plant(laid)
    before = snapshot(laid)
    found = lay(tree, check_mode=True, shows_diff=True)
    assert found.written == [path]
    assert {item["before_header"] for item in found.diff} == {str(laid / path)}
    assert all(item["before"] != item["after"] for item in found.diff)
    assert snapshot(laid) == before
    assert lay(tree).written == [path]
    assert lay(tree).written == []


def test_the_diff_is_text_where_it_is_text(tree, laid) -> None:
    plant_content(laid)
    plant_mode(laid)
    plant_leftover(laid)
    diffs = {Path(item["before_header"]).name: item for item in lay(tree, check_mode=True, shows_diff=True).diff}
    assert (diffs["conf"]["before"], diffs["conf"]["after"]) == ("one\n2\n", "one\ntwo\n")
    assert "mode 0644" in diffs["secret"]["before"]
    assert "mode 0600" in diffs["secret"]["after"]
    assert (diffs["old.conf"]["before"], diffs["old.conf"]["after"]) == ("present\n", "")


def test_a_binary_is_told_by_its_digest(tree, laid) -> None:
    plant_binary(laid)
    (item,) = lay(tree, check_mode=True, shows_diff=True).diff
    assert item["before"].startswith("5 bytes, sha256 ")
    assert item["after"].startswith("5 bytes, sha256 ")


def test_without_diff_no_content_is_returned(tree, laid) -> None:
    plant_content(laid)
    assert lay(tree, check_mode=True).diff == []


def test_an_empty_root_is_all_drift_in_check_mode_and_stays_empty(tree) -> None:
    (tree.ROOT.parent / "part").mkdir()
    found = lay(tree, check_mode=True)
    assert set(found.written) == {"srv", "srv/data", "etc", "etc/conf", "etc/secret", "opt", "opt/part", "etc/link"}
    assert list(tree.ROOT.iterdir()) == []


def test_a_component_that_is_not_there_cannot_be_checked_and_cannot_be_laid(tree, laid) -> None:
    (tree.ROOT.parent / "part/bin/tool").unlink()
    (tree.ROOT.parent / "part/bin").rmdir()
    (tree.ROOT.parent / "part").rmdir()
    found = lay(tree, check_mode=True)
    assert found.written == []
    assert found.unchecked == [f"opt/part: {tree.ROOT.parent / 'part'} is there only while the layer is baked"]
    with pytest.raises(FileNotFoundError, match="is not there"):
        lay(tree)


def test_what_may_not_be_read_is_named_in_check_mode_and_its_mode_still_counts(tree, laid, monkeypatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(path)

    monkeypatch.setattr(tree, "read_state", refuse)
    plant_mode(laid)
    found = lay(tree, check_mode=True)
    assert "etc/secret" in found.written
    assert [line.split(":")[0] for line in found.unchecked] == ["etc/conf", "etc/secret", "opt/part", "etc/link"]
    with pytest.raises(PermissionError):
        lay(tree)


def test_a_file_that_its_program_refuses_is_not_written(tree, laid) -> None:
    made = tree.Tree(MINE, {"etc/*": "grep -q good %s"})
    with pytest.raises(tree.subprocess.CalledProcessError):
        made.write_file("etc/conf", b"bad\n", "0644")
    assert (laid / "etc/conf").read_text() == "one\ntwo\n"
    assert [path.name for path in (laid / "etc").iterdir() if path.name.startswith(".")] == []
    made.write_file("etc/conf", b"good\n", "0644")
    assert (laid / "etc/conf").read_text() == "good\n"
