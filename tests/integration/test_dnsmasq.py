"""dnsmasq ends with the flash that started it, also with one that was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flash.lab.tap import make_tap, remove_tap
from qtrade.machine.argv import GUEST_ADDRESS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

MAC = "52:54:00:aa:bb:01"
CONTROLLER = """
import sys, time
from ipaddress import IPv4Address
from pathlib import Path
from flash.netboot.dnsmasq import Dnsmasq
from qtrade.manifest.host import Dhcp

dhcp = Dhcp(interface="tap0", range=(IPv4Address(sys.argv[1]), IPv4Address(sys.argv[1])))
server = Dnsmasq(dhcp, mac=sys.argv[2], url="http://10.0.2.2:8000", loaders=Path(sys.argv[3]))
print(server._child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def netns() -> Iterator[str]:
    """A network of this test's own, with nobody on it."""
    name = f"qt-dhcp-{os.getpid()}"
    make_tap(name)
    yield name
    remove_tap(name)


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    for name in ("undionly.kpxe", "snponly.efi"):
        (tmp_path / name).touch()
    (tmp_path / "tmp").mkdir()
    yield tmp_path
    # What a failed test leaves: nobody else has this folder in its arguments.
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(tmp_path / "tmp") in one.read_text(errors="replace"):
                os.kill(int(one.parent.name), signal.SIGKILL)


def start(netns: str, folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a controller in the network; return it and its dnsmasq, which runs."""
    argv = ["ip", "netns", "exec", netns, sys.executable, "-c", CONTROLLER, GUEST_ADDRESS, MAC, str(folder)]
    controller = subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(folder / "tmp")}
    )
    assert controller.stdout is not None
    with controller.stdout:
        number = controller.stdout.readline().strip()
    assert number, "dnsmasq did not start"
    assert is_dnsmasq(int(number))
    return controller, int(number)


def is_dnsmasq(pid: int) -> bool:
    try:
        return "dnsmasq" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
    except OSError:
        return False


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while is_dnsmasq(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_dnsmasq(pid)


def kill(controller: subprocess.Popen[str]) -> None:
    controller.kill()
    assert controller.wait(10) == -signal.SIGKILL


def test_it_dies_with_a_controller_that_is_killed(netns, folder) -> None:
    controller, server = start(netns, folder)
    kill(controller)
    assert gone(server), "dnsmasq goes on to lead the host into an installer that nobody serves"


def test_one_that_was_left_behind_is_ended_by_the_next_flash(netns, folder) -> None:
    controller, server = start(netns, folder)
    kill(controller)
    assert gone(server)
    (left,) = (folder / "tmp").glob("qtrade-dhcp-*")
    # As a controller leaves it whose dnsmasq did not die with it.
    command = Path("/proc/self/exe").resolve()
    orphan = subprocess.Popen([command, "-c", "import time; time.sleep(60)", str(left)])
    try:
        owner = json.loads((left / "owner.json").read_text())
        (left / "owner.json").write_text(json.dumps({**owner, "child": orphan.pid}))
        controller, server = start(netns, folder)
        assert orphan.wait(5) == -signal.SIGKILL
        assert not left.exists()
        kill(controller)
        assert gone(server)
    finally:
        orphan.kill()


def test_one_of_a_flash_that_is_alive_is_left_alone(netns, folder) -> None:
    first, server = start(netns, folder)
    other = f"{netns}b"
    make_tap(other)
    try:
        second, another = start(other, folder)
        assert is_dnsmasq(server)
        for one in (second, first):
            kill(one)
        assert gone(server)
        assert gone(another)
    finally:
        remove_tap(other)
