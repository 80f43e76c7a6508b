"""The lab with real QEMU: power, boot-once, virtual media and tidying up, driven by our driver and by plain sushy.

The guests are boot sectors that write a word to the serial console, so that every boot takes about a second.
"""

import http.server
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sushy

from flash.drivers import BootOverride, BootSource, OverrideEnabled, PowerState
from flash.drivers.redfish import RedfishDriver
from flash.lab import host as lab
from flash.lab.disks import digest_disk
from flash.lab.host import LabHost
from flash.lab.tap import attach_tap, make_tap, remove_tap
from qtrade import process
from qtrade.errors import ConflictError, HostError, QtradeError
from qtrade.machine import pids
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings, load_settings
from qtrade.toolsroot import ToolsRoot, open_tools

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

BOOT_S = 60


def boot_sector(word: str, *, then_reset: bool) -> bytes:
    """Return a boot sector that writes `word` to the console, waits for three seconds, and resets or halts."""
    code = bytearray.fromhex("31c08ed8 be0000 ba f803 ac 84c0 7403 ee ebf8".replace(" ", ""))
    code += bytes.fromhex("b486 b92d00 bac0c6 cd15".replace(" ", ""))
    code += bytes.fromhex("b0fe e664" if then_reset else "90909090") + bytes.fromhex("f4ebfd")
    code[5:7] = (0x7C00 + len(code)).to_bytes(2, "little")
    return (bytes(code) + word.encode() + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"


class NetbootScripts:
    """A web server that gives each of `scripts` once, and then `exit`."""

    def __init__(self, port: int, files: dict[str, bytes] | None = None) -> None:
        self.scripts: list[str] = []
        self.asked: list[str] = []
        owner, kept = self, files or {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append(self.path)
                body = kept.get(self.path)
                if body is None:
                    script = owner.scripts.pop(0) if owner.scripts else "exit"
                    body = f"#!ipxe\n{script}\n".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@contextmanager
def netboot_scripts(port: int, files: dict[str, bytes] | None = None) -> Iterator[NetbootScripts]:
    scripts = NetbootScripts(port, files)
    try:
        yield scripts
    finally:
        scripts.close()


def wait_until(what: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def tools() -> ToolsRoot:
    try:
        return open_tools(load_settings())
    except QtradeError as error:
        pytest.skip(error.brief)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("lab")
    return Settings(project=folder, state_dir=folder, store=folder / "store")


@pytest.fixture(scope="module")
def host(settings: Settings, tools: ToolsRoot) -> Iterator[LabHost]:
    host = lab.up(settings, tools, memory_mib=256, owner_pid=os.getpid())
    yield host
    lab.down(settings)
    assert pids.find_processes((f"{host.paths.folder}",)) == []


@pytest.fixture
def driver(host: LabHost) -> Iterator[RedfishDriver]:
    driver = RedfishDriver(host.access)
    yield driver
    driver.close()
    driver.clear_boot_override()
    driver.power_off()
    driver.eject()
    with host.paths.os_disk.open("r+b") as disk:
        disk.write(bytes(512))
    driver.close()


@pytest.fixture
def plain(host: LabHost) -> Iterator[sushy.Sushy]:
    """The client library without our driver, as a cross-check of the BMC."""
    access = host.access
    auth = sushy.auth.SessionOrBasicAuth(access.username, access.password_file.read_text())
    yield sushy.Sushy(access.url, auth=auth)
    auth.close()


def test_boot_sector_is_what_it_should_be() -> None:
    sector = boot_sector("QT", then_reset=True)
    assert (len(sector), sector[510:]) == (512, b"\x55\xaa")
    assert sector[int.from_bytes(sector[5:7], "little") - 0x7C00 :].startswith(b"QT\r\n\0")


def test_up_makes_the_host_and_leaves_it_off(host: LabHost, settings: Settings, tools: ToolsRoot) -> None:
    status = lab.status(settings)
    assert (status.is_up, status.qemu_pid) == (True, None)
    assert lab.up(settings, tools, memory_mib=256) == host
    assert lab.status(settings).bmc_pid == status.bmc_pid
    assert host.paths.password.stat().st_mode & 0o777 == 0o600
    for path, disk in ((host.paths.ledger, host.facts.ledger), (host.paths.data, host.facts.data)):
        assert path.stat().st_size == disk.size_bytes
        assert str(disk.fs_uuid) in tools.run("tune2fs", "-l", path).stdout
    assert tools.run("e2fsck", "-fn", host.paths.ledger).returncode == 0
    with pytest.raises(ConflictError, match="bios firmware"):
        lab.up(settings, tools, firmware=Firmware.UEFI)


def test_a_blank_disk_falls_to_the_network(host: LabHost, driver: RedfishDriver) -> None:
    with netboot_scripts(host.facts.ports.netboot) as netboot:
        netboot.scripts = ["echo QT-NET"]
        offset = host.console.offset()
        driver.power_on()
        host.console.wait_for("not a bootable disk(.|\n)*QT-NET", offset=offset, timeout_s=BOOT_S)
        assert netboot.asked == ["/boot.ipxe"]


def test_once_holds_for_one_reboot_that_the_guest_makes(
    host: LabHost, driver: RedfishDriver, settings: Settings
) -> None:
    with host.paths.os_disk.open("r+b") as disk:
        disk.write(boot_sector("QT-DISK", then_reset=True))
    with netboot_scripts(host.facts.ports.netboot) as netboot:
        netboot.scripts = ["echo QT-NET\nsleep 1\nreboot"]
        offset = host.console.offset()
        driver.power_on()
        first = host.console.wait_for("QT-DISK", offset=offset, timeout_s=BOOT_S)
        pid = lab.status(settings).qemu_pid
        # The disk's guest resets itself again and again; only the reset after this line goes elsewhere.
        assert driver.boot_once(BootSource.PXE) == BootOverride(BootSource.PXE, OverrideEnabled.ONCE)
        again = host.console.wait_for("QT-NET", offset=first.end_offset, timeout_s=BOOT_S)
        assert not driver.boot_override().is_set
        host.console.wait_for("QT-DISK(.|\n)*QT-DISK", offset=again.end_offset, timeout_s=BOOT_S)
        assert netboot.asked == ["/boot.ipxe"]
        assert driver.power_state() is PowerState.ON
        assert lab.status(settings).qemu_pid != pid


def test_plain_sushy_agrees(host: LabHost, driver: RedfishDriver, plain: sushy.Sushy) -> None:
    (system,) = plain.get_system_collection().get_members()
    assert (system.uuid, system.serial_number) == (host.facts.uuid, host.facts.name)
    assert system.power_state == sushy.PowerState.OFF
    assert system.get_allowed_system_boot_source_values() == {
        sushy.BootSource.NONE,
        sushy.BootSource.HDD,
        sushy.BootSource.PXE,
        sushy.BootSource.CD,
    }
    system.set_system_boot_source(sushy.BootSource.PXE, enabled=sushy.BootSourceOverrideEnabled.ONCE)
    system.refresh(force=True)
    assert (system.boot.target, system.boot.enabled) == (
        sushy.BootSource.PXE,
        sushy.BootSourceOverrideEnabled.ONCE,
    )
    system.reset_system(sushy.ResetType.ON)

    def is_on() -> bool:
        system.refresh(force=True)
        return bool(system.power_state == sushy.PowerState.ON)

    wait_until(is_on)
    assert system.boot.enabled == sushy.BootSourceOverrideEnabled.DISABLED
    assert [nic.mac_address for nic in system.ethernet_interfaces.get_members()] == [host.facts.mac]
    assert [manager.identity for manager in system.managers] == ["bmc"]
    assert [chassis.identity for chassis in plain.get_chassis_collection().get_members()] == ["chassis"]
    assert plain.get_session_service().service_enabled
    with pytest.raises(sushy.exceptions.BadRequestError, match="this machine has Legacy"):
        system.set_system_boot_options(sushy.BootSource.PXE, mode=sushy.BootSourceOverrideMode.UEFI)


def test_wrong_password_is_refused(host: LabHost, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("not-the-password")
    with pytest.raises(HostError, match="not logged in"):
        RedfishDriver(replace(host.access, password_file=tmp_path / "password")).power_state()


def test_virtual_media_boots_once(host: LabHost, driver: RedfishDriver, tools: ToolsRoot, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "boot.img").write_bytes(boot_sector("QT-CD", then_reset=True).ljust(2048, b"\0"))
    iso = tmp_path / "boot.iso"
    tools.run("xorriso", "-as", "mkisofs", "-quiet", "-b", "boot.img", "-no-emul-boot", "-o", iso, content)
    with netboot_scripts(host.facts.ports.netboot, {"/boot.iso": iso.read_bytes()}) as netboot:
        url = f"http://127.0.0.1:{host.facts.ports.netboot}/boot.iso"
        driver.insert(url)
        driver.boot_once(BootSource.CD)
        offset = host.console.offset()
        driver.power_on()
        # The disc's guest resets the machine: after that, disk and network come first again.
        host.console.wait_for("QT-CD(.|\n)*not a bootable disk", offset=offset, timeout_s=BOOT_S)
        driver.eject()
        assert not host.paths.medium.exists()
        driver.insert(url)
        assert netboot.asked.count("/boot.iso") == 2
    with pytest.raises(HostError, match="could not insert"):
        driver.insert(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_the_nic_moves_into_a_namespace(host: LabHost, driver: RedfishDriver) -> None:
    netns = f"qtrade-{os.getpid()}"
    try:
        attach_tap(host, make_tap(netns))
        driver.power_on()
        counter = "/sys/class/net/tap0/statistics/rx_packets"

        def has_sent() -> bool:
            return int(process.run(["ip", "netns", "exec", netns, "cat", counter]).stdout) > 0

        # iPXE asks for an address, which nobody gives it here.
        wait_until(has_sent, BOOT_S)
    finally:
        driver.power_off()
        attach_tap(host, None)
        remove_tap(netns)
    driver.power_on()


def test_a_power_cut_is_seen(driver: RedfishDriver, settings: Settings) -> None:
    driver.power_on()
    assert lab.cut_power(settings)
    wait_until(lambda: driver.power_state() is PowerState.OFF)
    assert lab.status(settings).qemu_pid is None
    assert not lab.cut_power(settings)


def test_whatever_is_killed_up_mends_it(
    host: LabHost, driver: RedfishDriver, settings: Settings, tools: ToolsRoot
) -> None:
    ledger = digest_disk(host.paths.ledger)
    driver.power_on()
    driver.boot_once(BootSource.PXE)
    status = lab.status(settings)
    assert status.bmc_pid is not None
    os.kill(status.bmc_pid, signal.SIGKILL)
    # QEMU goes with the thread that started it.
    wait_until(lambda: pids.find_processes((str(host.paths.folder),)) == [])
    assert lab.status(settings).bmc_pid is None
    host.paths.bmc_pid.unlink(missing_ok=True)
    assert lab.up(settings, tools, memory_mib=256, owner_pid=os.getpid()).facts == host.facts
    with RedfishDriver(host.access) as fresh:
        assert fresh.power_state() is PowerState.OFF
        assert fresh.boot_override().target is BootSource.PXE
    assert digest_disk(host.paths.ledger) == ledger


def test_a_lab_whose_owner_is_gone_ends(settings: Settings, tools: ToolsRoot) -> None:
    owner = os.fork()
    if owner == 0:
        time.sleep(3600)
    host = lab.up(settings, tools, "lab-2", memory_mib=256, owner_pid=owner)
    with RedfishDriver(host.access) as driver:
        driver.power_on()
    assert lab.status(settings, "lab-2").qemu_pid is not None
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    wait_until(lambda: pids.find_processes((str(host.paths.folder),)) == [])
    lab.down(settings, "lab-2", wipe=True)
    assert not host.paths.folder.exists()
