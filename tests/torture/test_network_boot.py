"""Real firmware boots from the network by our DHCP server, alone and beside another one: BIOS by its card's iPXE, UEFI by its own PXE.

The machine has no disk and gets no installer: that our script was fetched is what the door is for. What follows it is in test_doors.
QEMU's cards have iPXE in their ROM, so BIOS needs no TFTP here; OVMF runs no such ROM (`romfile=`), and gets iPXE by TFTP first.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qtrade.machine.argv import GATEWAY, GUEST_ADDRESS
from qtrade.machine.machine import find_qemu, running_machine
from qtrade.machine.spec import Firmware, MachineSpec, Nic, TapNetwork
from qtrade.settings import Settings
from qtrade.toolsroot import open_tools
from tests.fakes.segment import Segment, neighbours_dhcp, open_segment

pytestmark = [pytest.mark.torture, pytest.mark.timeout(420)]

MAC = "52:54:00:aa:bb:01"
PORT = 8000
CONTROLLER = """
import json, sys, time
from ipaddress import IPv4Address
from pathlib import Path
from flash.netboot.delivery import Delivery
from flash.netboot.dnsmasq import Dnsmasq
from flash.netboot.ipxe import BootPlan
from flash.netboot.server import FlashServer
from qtrade.manifest.host import Dhcp

asked = json.loads(sys.argv[1])
where = {name: IPv4Address(value) if name == "subnet" else tuple(map(IPv4Address, value)) for name, value in asked["dhcp"].items()}
blob = Path(asked["blob"])
boot = BootPlan(mac=asked["mac"], kernel=blob, initrd=blob, root_id="0" * 64)
with FlashServer(asked["listen"], asked["port"]) as server, server.serving(Delivery(lambda _: None, print, boot=boot)) as served:
    dnsmasq = Dnsmasq(Dhcp(interface="br0", **where), mac=asked["mac"], url=server.url, loaders=Path(asked["loaders"]))
    print("ready", flush=True)
    deadline = time.monotonic() + asked["within_s"]
    while served.is_armed and time.monotonic() < deadline:
        time.sleep(0.2)
    print(json.dumps({"taken": not served.is_armed, "log": dnsmasq.log.read_text()}), flush=True)
    dnsmasq.stop()
"""


@pytest.fixture
def segment() -> Iterator[Segment]:
    with open_segment() as made:
        yield made


@pytest.mark.parametrize("firmware", [Firmware.BIOS, Firmware.UEFI])
@pytest.mark.parametrize("beside", [True, False], ids=["beside another server", "alone"])
def test_our_script_is_fetched(
    settings: Settings, segment: Segment, tmp_path: Path, firmware: Firmware, *, beside: bool
) -> None:
    tools = open_tools(settings)
    (tmp_path / "blob").write_bytes(b"no kernel")
    variables = None
    if firmware is Firmware.UEFI:
        variables = tmp_path / "vars.fd"
        shutil.copyfile(tools.root / "usr/share/OVMF/OVMF_VARS_4M.fd", variables)
    dhcp: dict[str, object] = {"subnet": "10.0.2.0"} if beside else {"range": [GUEST_ADDRESS, GUEST_ADDRESS]}
    asked = {
        "dhcp": dhcp, "mac": MAC, "listen": GATEWAY, "port": PORT, "blob": str(tmp_path / "blob"), "within_s": 180,
        "loaders": str(tools.root / "usr/lib/ipxe"),
    }  # fmt: skip
    spec = MachineSpec(
        name="netboot",
        console=tmp_path / "console",
        memory_mib=512,
        firmware=firmware,
        uefi_vars=variables,
        nic=Nic(MAC, TapNetwork(segment.tap, segment.netns), boot_index=1),
        has_uefi_pxe=True,
    )
    with ExitStack() as stack:
        if beside:
            log = stack.enter_context(neighbours_dhcp(segment, tmp_path))
        argv = ["ip", "netns", "exec", segment.netns, sys.executable, "-c", CONTROLLER, json.dumps(asked)]
        controller = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        stack.callback(controller.kill)
        assert controller.stdout is not None
        assert controller.stdout.readline().strip() == "ready"
        with running_machine(spec, find_qemu(settings, tools), tmp_path / "machine"):
            found = json.loads(controller.stdout.readline())
    said = f"{found['log']}\n{spec.console.read_text(errors='replace')[-3000:]}"
    assert found["taken"], said
    assert ("snponly.efi" in found["log"].partition("sent ")[2] and "/snponly.efi to" in found["log"]) is (
        firmware is Firmware.UEFI
    ), said
    if beside:
        assert "DHCPACK" in log.read_text(), "the other server gave no address: the test shows nothing"
