"""A bake changes nothing on the machine that it runs on, whatever its roles do in their chroot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qtrade.settings import load_settings
from tests.fakes.tiny import QTRADE, TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
# A network and mounts of its own, as a machine that nobody else works on; the loopback interface is up.
ALONE = (
    "unshare",
    "--net",
    "--mount",
    "--propagation",
    "private",
    "--",
    "sh",
    "-c",
    'ip link set lo up && exec "$@"',
    "sh",
)
MEDDLING = {
    "a file of the machine": {
        "ansible.builtin.copy": {"content": "x\n", "dest": "/etc/qtrade-was-here", "mode": "0644"}
    },
    "an account": {"ansible.builtin.command": {"cmd": "useradd --system qtrade-was-here"}},
    "a mount": {"ansible.builtin.shell": {"cmd": "mkdir -p /opt/m && mount -t tmpfs was-here /opt/m"}},
    "an address": {"ansible.builtin.command": {"cmd": "ip address add 192.0.2.77/32 dev lo"}},
    "a host name": {"ansible.builtin.command": {"cmd": "hostname was-here"}},
    "a kernel setting": {"ansible.builtin.shell": {"cmd": "! echo 61 > /proc/sys/vm/swappiness"}},
    "a daemon": {
        "ansible.builtin.shell": {
            "cmd": "setsid python3 -c 'import socket, time; s = socket.create_server((\"0.0.0.0\", 45678)); time.sleep(20)' "
            "> /dev/null 2>&1 & sleep 1; grep -q B26E /proc/net/tcp"
        }
    },
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    return make_tiny_project(load_settings(), tmp_path_factory.mktemp("tiny"))


def watch(tiny: TinyProject, folder: Path, *command: str | Path) -> tuple[int, list[str]]:
    """Run a command on a machine of its own; return its code and what is different on the machine afterwards."""
    report = folder / "report.json"
    argv = [*ALONE, sys.executable, "-B", "-m", "tests.fakes.machine_watch", report, *command]
    environment = {**tiny.environment, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(argv, cwd=REPOSITORY, env=environment, check=False, capture_output=True, text=True)
    assert report.exists(), done.stderr
    return done.returncode, json.loads(report.read_text())


def test_a_bake_with_packages_and_a_role_that_meddles_leaves_the_machine_as_it_was(tiny, tmp_path) -> None:
    """Role one installs a package, its maintainer scripts included; role two does what a role must not get away with."""
    for task in MEDDLING.values():
        ((module, arguments),) = task.items()
        tiny.add_task("two", module, **arguments)
    tiny.run("lock", "--recipe", "tiny")  # what is fetched is in the cache before the machine is alone
    code, changes = watch(tiny, tmp_path, QTRADE, "bake", "--recipe", "tiny", "--until", "two")
    logs = [(tiny.settings.state_dir / f"logs/layer-{role}.log").read_text() for role in ("one", "two")]
    assert logs[0].count("changed: [one]") == 1, logs[0][-3000:]
    assert logs[1].count("changed: [two]") == 2 + len(MEDDLING), logs[1][-3000:]
    assert changes == []
    assert code == 0


@pytest.mark.parametrize("what", ["a mount", "an address", "a daemon"])
def test_the_same_outside_of_a_chroot_would_be_seen(tiny, tmp_path, what) -> None:
    ((_, arguments),) = MEDDLING[what].items()
    command = str(arguments["cmd"]).replace("/opt/m", str(tmp_path / "m"))
    code, changes = watch(tiny, tmp_path, "sh", "-c", command)
    assert code == 0
    assert len(changes) == 1
    assert changes[0].endswith(": is new")
