"""What a layer says about /var and about its paths. No tools are needed for that."""

from pathlib import Path

import pytest

from bake import pack

pytestmark = pytest.mark.unit

CONFIG = "usr/lib/tmpfiles.d/qtrade-var-app.conf"


@pytest.fixture
def tree(tmp_path) -> Path:
    return tmp_path


def make(tree: Path, *folders: str, mode: int = 0o755) -> None:
    for name in folders:
        (tree / name).mkdir(parents=True, exist_ok=True)
        (tree / name).chmod(mode)


def var_lines(tree: Path, known: frozenset[str] = frozenset()) -> list[str]:
    pack._write_var_lines(tree, name="app", known=known)
    path = tree / CONFIG
    return path.read_text().splitlines() if path.exists() else []


def owner(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_uid} {facts.st_gid}"


def test_folders_of_var_become_lines_with_mode_and_numeric_owner(tree) -> None:
    make(tree, "var/lib/postgresql", "var/log")
    make(tree, "var/lib/postgresql/17", mode=0o2750)
    me = owner(tree / "var")
    assert var_lines(tree) == [
        f"d /var/lib 0755 {me} -",
        f"d /var/lib/postgresql 0755 {me} -",
        f"d /var/lib/postgresql/17 2750 {me} -",
        f"d /var/log 0755 {me} -",
    ]


def test_folders_that_layers_below_make_are_left_out(tree) -> None:
    make(tree, "var/lib/chrony", "var/log")
    assert var_lines(tree, frozenset({"lib", "log"})) == [f"d /var/lib/chrony 0755 {owner(tree / 'var')} -"]


def test_folders_that_only_the_bake_used_are_left_out(tree) -> None:
    make(tree, "var/cache/apt", "var/lib/apt/lists", "var/lib/dpkg/info", "var/log/apt", "var/tmp/x", "var/backups")
    make(tree, "var/lib/systemd/deb-systemd-helper-enabled", "var/lib/ucf/cache", "var/lib/pam")
    make(tree, "var/lib/apt-listchanges", "var/lib/dpkgs")
    known = frozenset({"lib", "log", "lib/systemd"})
    assert [line.split()[1] for line in var_lines(tree, known)] == ["/var/lib/dpkgs"]


def test_a_layer_without_such_folders_gets_no_file(tree) -> None:
    make(tree, "var/cache")
    assert var_lines(tree) == []
    assert not (tree / "usr").exists()


@pytest.mark.parametrize("var", ["none", "link"])
def test_a_layer_without_var_gets_no_file(tree, var) -> None:
    if var == "link":
        (tree / "var").symlink_to("/somewhere")
    assert var_lines(tree) == []


def test_the_file_has_a_fixed_mode(tree) -> None:
    make(tree, "var/lib/x")
    var_lines(tree)
    assert (tree / CONFIG).stat().st_mode & 0o777 == 0o644


def test_paths_are_sorted_and_say_kind_mode_and_owner(tree) -> None:
    make(tree, "etc/app", mode=0o750)
    (tree / "etc/app/b").write_text("")
    (tree / "etc/app/a").write_text("")
    (tree / "etc/link").symlink_to("app")
    me = owner(tree).replace(" ", ":")
    assert pack._list_paths(tree) == (
        f"d 0750:{me} etc/app",
        f"d 0755:{me} etc",
        "f etc/app/a",
        "f etc/app/b",
        "f etc/link",
    )


def test_of_var_only_the_package_database_is_listed(tree) -> None:
    make(tree, "var/lib/dpkg/info", "var/lib/chrony", "var/log")
    for name in ("var/lib/dpkg/status", "var/lib/chrony/drift", "var/log/x.log"):
        (tree / name).write_text("")
    assert [line.split()[-1] for line in pack._list_paths(tree)] == [
        "var/lib/dpkg",
        "var/lib/dpkg/info",
        "var/lib/dpkg/status",
    ]


def test_names_with_spaces_are_listed_like_others(tree) -> None:
    make(tree, "etc")
    for name in ("etc/a b", "etc/a b c", "etc/x var", "etc/x y var/z"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("")
    files = [line for line in pack._list_paths(tree) if line.startswith("f ")]
    assert files == ["f etc/a b", "f etc/a b c", "f etc/x var", "f etc/x y var/z"]


def test_everything_of_var_but_the_package_database_is_kept_out_of_the_blob(tree) -> None:
    make(tree, "var/lib/dpkg", "var/lib/apt", "var/log", "var/cache")
    assert pack._var_excludes(tree)[:-2] == [
        "--exclude=./var/cache",
        "--exclude=./var/log",
        "--exclude=./var/lib/apt",
    ]
    assert "--exclude=./var/lib/dpkg" not in pack._var_excludes(tree)


def test_a_digest_of_a_file_is_its_sha256(tree) -> None:
    (tree / "x").write_bytes(b"abc")
    assert pack.sha256_file(tree / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
