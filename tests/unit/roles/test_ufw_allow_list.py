"""The host's allow list: what is taken, what a broken list changes, and loading it again without Python."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.unit

LIB = Path(__file__).parents[3] / "ansible/roles/ufw_solana/files/usr/lib/qtrade/ufw_solana"
GOOD = "in json-rpc 192.0.2.0/24  # an office\n\nin grpc 2001:db8::/32\nout 10.1.0.0/16\n"
# The kernel of these tests refuses this network.
POISON = "203.0.113.0/24"
FAKE_RESTORE = f"""#!/bin/sh
for last; do :; done
rules=$(cat -- "$last" 2>/dev/null || cat)
case "$rules" in *{POISON}*) exit 1;; esac
printf '%s %s\\n%s\\n' "${{0##*/}}" "$*" "$rules" >>"$RESTORE_LOG"
"""


@pytest.fixture
def allow_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program with a state directory and fake restore programs, which note what they are given."""
    spec = importlib.util.spec_from_file_location("allow_list", LIB / "allow_list.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("iptables-restore", "ip6tables-restore"):
        (tmp_path / name).write_text(FAKE_RESTORE)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("RESTORE_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(module, "ALLOW_LIST", tmp_path / "allow.rules")
    monkeypatch.setattr(module, "STATE", tmp_path / "state")
    monkeypatch.setattr(module, "INTERFACES", declare(tmp_path, 8899))
    monkeypatch.setattr(
        module, "RESTORE", {4: str(tmp_path / "iptables-restore"), 6: str(tmp_path / "ip6tables-restore")}
    )
    return module


def declare(tmp_path: Path, rpc_port: int) -> Path:
    """Write what two roles declare, as they bake it; return the folder."""
    folder = tmp_path / "interfaces.d"
    folder.mkdir(exist_ok=True)
    agave = [
        {"name": "json-rpc", "port": rpc_port, "exposure": "allow-list"},
        {"name": "gossip", "port": 8001, "exposure": "public"},
        {"name": "dynamic", "first": 8000, "end": 8030, "exposure": "public"},
        {"name": "admin", "path": "/mnt/ledger/admin.rpc", "exposure": "private"},
    ]
    geyser = [{"name": "grpc", "port": 10000, "exposure": "allow-list"}]
    postgres = [{"name": "postgres", "port": 5432, "exposure": "loopback"}]
    for role, declared in (("agave", agave), ("geyser", geyser), ("postgres", postgres)):
        (folder / f"{role}.json").write_text(json.dumps({"interfaces": declared}))
    return folder


def read_log(tmp_path: Path) -> str:
    """Return what the restore programs noted since the last call."""
    log = tmp_path / "log"
    text = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    return text


def test_rules_are_rendered_by_family(allow_list: ModuleType) -> None:
    head = "*filter\n:qtrade-allow-in - [0:0]\n:qtrade-allow-out - [0:0]\n"
    assert allow_list.render_rules(GOOD) == {
        4: f"{head}-A qtrade-allow-in -s 192.0.2.0/24 -p tcp --dport 8899 -j ACCEPT\n"
        "-A qtrade-allow-out -d 10.1.0.0/16 -j ACCEPT\nCOMMIT\n",
        6: f"{head}-A qtrade-allow-in -s 2001:db8::/32 -p tcp --dport 10000 -j ACCEPT\nCOMMIT\n",
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("in postgres 192.0.2.0/24", "postgres is no interface for allow lists; this image has grpc, json-rpc, ssh"),
        ("in admin 192.0.2.0/24", "admin is no interface"),
        ("in gossip 192.0.2.0/24", "gossip is no interface"),
        ("in 8899 192.0.2.0/24", "8899 is no interface"),
        ("in json-rpc 0.0.0.0/0", "wider than /8"),
        ("in json-rpc 128.0.0.0/1", "wider than /8"),
        ("in json-rpc ::/0", "wider than /16"),
        ("in json-rpc 2000::/3", "wider than /16"),
        ("out 0.0.0.0/1", "wider than /8"),
        ("in json-rpc 192.0.2.1/24", "host bits set"),
        ("in json-rpc office.example.com", "does not appear to be"),
        ("in tcp 22 192.0.2.0/24", "neither"),
        ("in ssh", "neither"),
        ("out 192.0.2.0/24 -j DROP", "neither"),
        ("-F INPUT", "neither"),
        ("COMMIT", "neither"),
    ],
)
def test_a_broken_line_is_named(allow_list: ModuleType, line: str, reason: str) -> None:
    with pytest.raises(ValueError, match="line 2: ") as error:
        allow_list.render_rules(f"in ssh 192.0.2.0/24\n{line}\n")
    assert reason in str(error.value)


def test_both_families_are_tested_before_either_is_changed(allow_list: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "allow.rules").write_text(GOOD)
    allow_list.load_list()
    calls = [line for line in read_log(tmp_path).splitlines() if "tables-restore" in line]
    assert calls == [
        "iptables-restore --wait 10 --noflush --test",
        "ip6tables-restore --wait 10 --noflush --test",
        "iptables-restore --wait 10 --noflush",
        "ip6tables-restore --wait 10 --noflush",
    ]
    assert (tmp_path / "state/allow.rules").read_text() == GOOD


@pytest.mark.parametrize("broken", ["in json-rpc everybody\n", f"in json-rpc {POISON}\n", "in json-rpc ::1 \x00\n"])
def test_a_broken_list_keeps_the_last_good_one(allow_list: ModuleType, tmp_path: Path, broken: str) -> None:
    (tmp_path / "allow.rules").write_text(GOOD)
    allow_list.load_list()
    before = {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()}
    read_log(tmp_path)
    (tmp_path / "allow.rules").write_text(broken)
    with pytest.raises(SystemExit, match="the last good list stays"):
        allow_list.load_list()
    loaded = read_log(tmp_path)
    assert "192.0.2.0/24" in loaded, "the last good list was not loaded"
    assert broken.rsplit(maxsplit=1)[-1] not in loaded
    assert {path.name: path.read_bytes() for path in (tmp_path / "state").iterdir()} == before


def test_a_broken_first_list_leaves_empty_chains(allow_list: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "allow.rules").write_text("nonsense\n")
    with pytest.raises(SystemExit, match="line 1"):
        allow_list.load_list()
    loaded = read_log(tmp_path)
    assert ":qtrade-allow-in - [0:0]" in loaded
    assert "-A" not in loaded
    assert not (tmp_path / "state/allow.rules").exists()


def test_a_last_good_list_that_is_not_taken_any_more_changes_nothing(allow_list: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "state/allow.rules").write_text("in tcp 8899 192.0.2.0/24\n")
    (tmp_path / "allow.rules").write_text("nonsense\n")
    with pytest.raises(SystemExit, match="stays as it is"):
        allow_list.load_list()
    assert read_log(tmp_path) == ""


def test_another_image_with_other_ports_opens_those(allow_list: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "allow.rules").write_text(GOOD)
    allow_list.load_list()
    assert "--dport 8899" in read_log(tmp_path)
    declare(tmp_path, 9899)
    allow_list.load_list()
    loaded = read_log(tmp_path)
    assert "--dport 9899" in loaded
    assert "--dport 8899" not in loaded


def test_a_missing_list_means_the_last_good_one(allow_list: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "state/allow.rules").write_text(GOOD)
    allow_list.load_list()
    assert "192.0.2.0/24" in read_log(tmp_path)


def run_shell(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run load.sh with the folders of the test; its Python says that it was called, and does nothing."""
    paths = {
        "own=/usr/lib/qtrade/ufw_solana": f"own={LIB}",
        "/var/lib/qtrade-firewall": str(tmp_path / "state"),
        "/run/qtrade/state/config/current/ufw/allow.rules": str(tmp_path / "allow.rules"),
        "/usr/share/qtrade/interfaces.d": str(tmp_path / "interfaces.d"),
    }
    script = (LIB / "load.sh").read_text()
    for old, new in paths.items():
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "python3").write_text('#!/bin/sh\necho "python $*"\n')
    (tmp_path / "python3").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)


def test_a_list_that_was_good_is_loaded_without_python(allow_list: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "allow.rules").write_text(GOOD)
    allow_list.load_list()
    read_log(tmp_path)
    done = run_shell(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    loaded = read_log(tmp_path)
    assert "-s 192.0.2.0/24" in loaded
    assert "-s 2001:db8::/32" in loaded


@pytest.mark.parametrize("change", ["list", "program", "no program", "interfaces", "rules refused"])
def test_python_looks_at_everything_else(allow_list: ModuleType, tmp_path: Path, change: str) -> None:
    (tmp_path / "allow.rules").write_text(GOOD)
    allow_list.load_list()
    match change:
        case "list":
            (tmp_path / "allow.rules").write_text(GOOD + "out 10.2.0.0/16\n")
        case "program":
            (tmp_path / "state/made-by").write_text("an older one")
        case "no program":
            (tmp_path / "state/made-by").unlink()
        case "interfaces":
            declare(tmp_path, 9899)
        case _:
            (tmp_path / "state/v6.rules").write_text(POISON)
    done = run_shell(tmp_path)
    assert (done.returncode, done.stdout) == (0, f"python -I -S -B {LIB}/allow_list.py\n")
