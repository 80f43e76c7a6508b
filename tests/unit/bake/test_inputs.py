"""Digests of what a bake reads: everything that gets into a layer counts, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bake.inputs import hash_folder, read_inputs
from bake.lock.document import Lock, LockedCollection
from qtrade.settings import Settings
from tests.fakes.examples import make_settings

pytestmark = pytest.mark.unit

LOCK = Lock(recipe="demo", suite="trixie", wants={}, collections={"x.y": LockedCollection(version="1.2")})


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "tree"
    (root / "files").mkdir(parents=True)
    (root / "files/a").write_text("one")
    (root / "files/b").write_text("two")
    (root / "files/link").symlink_to("a")
    (root / "files/folder").symlink_to("../files", target_is_directory=True)
    return root


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: write(root / "files/a", "ONE"),
    "name": lambda root: (root / "files/a").rename(root / "files/c"),
    "folder": lambda root: (root / "files").rename(root / "templates"),
    "executable bit": lambda root: (root / "files/a").chmod(0o755),
    "target of a link": lambda root: relink(root / "files/link", "b"),
    "target of a link to a folder": lambda root: relink(root / "files/folder", "../.."),
    "a link instead of its text": lambda root: ((root / "files/b").unlink(), (root / "files/b").symlink_to("two")),
    "a new file": lambda root: write(root / "files/new"),
    "a file less": lambda root: (root / "files/b").unlink(),
    "content that moves to the next file": lambda root: (
        write(root / "files/a", "onet"),
        write(root / "files/b", "wo"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_this_changes_the_digest(tree, change) -> None:
    before = hash_folder(tree)
    CHANGES[change](tree)
    assert hash_folder(tree) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root / "files/__pycache__/x.cpython-311.pyc"),
        lambda root: write(root / "files/x.pyc"),
        lambda root: (root / "files/a").chmod(0o600),
        lambda root: (root / "files/a").touch(),
    ],
    ids=["__pycache__", "pyc", "bits that do not execute", "time"],
)
def test_this_does_not(tree, change) -> None:
    before = hash_folder(tree)
    change(tree)
    assert hash_folder(tree) == before


def test_the_place_of_a_tree_does_not_count(tree, tmp_path) -> None:
    before = hash_folder(tree)
    assert hash_folder(tree.rename(tmp_path / "elsewhere")) == before


def test_a_single_file_counts_with_its_name(tmp_path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, "same")
    assert hash_folder(tmp_path / "a") != hash_folder(tmp_path / "b")


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    project = settings.project
    write(project / "manifests/ids.yaml")
    write(project / "ansible/ansible.cfg")
    write(project / "ansible/collections/x/plugin.py")
    write(project / "packer/layer/build.pkr.hcl")
    for role in ("app", "tool"):
        write(project / f"ansible/playbooks/{role}.yml")
        write(project / f"ansible/roles/{role}/tasks/main.yml")
    return settings


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("manifests/ids.yaml", {"base"}),
        ("packer/layer/build.pkr.hcl", {"layer"}),
        ("ansible/ansible.cfg", {"layer"}),
        ("ansible/collections/x/plugin.py", {"layer"}),
        ("ansible/playbooks/tasks/new.yml", {"layer"}),
        ("ansible/playbooks/app.yml", {"app"}),
        ("ansible/roles/app/tasks/main.yml", {"app"}),
        ("ansible/roles/app/files/usr/share/doc/x/README.md", {"app"}),
        ("ansible/roles/app/files/usr/share/specs/x", {"app"}),
        ("ansible/roles/app/README.md", set()),
        ("ansible/roles/app/specs/test_app.py", set()),
        ("ansible/roles/other/tasks/main.yml", set()),
        ("manifests/hosts/rpc-1.yaml", set()),
        ("manifests/seal.yaml", set()),
    ],
)
def test_a_changed_file_of_the_project_changes_these_inputs_under_its_own_name(settings, path, changed) -> None:
    def read() -> dict[str, dict[str, str]]:
        inputs = read_inputs(settings, ("app", "tool"), {}, LOCK)
        return {name: dict(fields) for name, fields in {**inputs.code, **inputs.roles}.items()}

    before = read()
    write(settings.project / path, "changed")
    after = read()
    assert {name for name in before if before[name] != after[name]} == changed
    for name in changed:
        assert {key for key in after[name] if before[name].get(key) != after[name][key]} == {path}
