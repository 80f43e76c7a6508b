"""dnsmasq's options, and that a real one takes them."""

import shutil
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from flash.netboot.dnsmasq import render_arguments
from qtrade.manifest.host import Dhcp

pytestmark = pytest.mark.unit

RANGE = Dhcp(interface="lo", range=(IPv4Address("10.0.2.15"), IPv4Address("10.0.2.20")))
PROXY = Dhcp(interface="lo", subnet=IPv4Address("10.0.2.0"))
MAC, URL = "52:54:00:aa:bb:01", "http://10.0.2.2:8000"


@pytest.mark.parametrize("dhcp", [RANGE, PROXY])
def test_one_mac_is_answered_and_led_to_our_script(dhcp: Dhcp, tmp_path: Path) -> None:
    arguments = render_arguments(dhcp, mac=MAC, url=URL, folder=tmp_path)
    assert {"--port=0", f"--dhcp-host={MAC}", "--dhcp-ignore=tag:!known", "--interface=lo", "--bind-interfaces"} <= {
        *arguments
    }
    (script,) = [one for one in arguments if one.startswith("--dhcp-boot=tag:ipxe")]
    assert script == f"--dhcp-boot=tag:ipxe,{URL}/boot.ipxe" + (",,10.0.2.2" if dhcp is PROXY else "")
    assert [one for one in arguments if one.startswith("--dhcp-range=")] == [
        "--dhcp-range=10.0.2.0,proxy" if dhcp is PROXY else "--dhcp-range=10.0.2.15,10.0.2.20,10m"
    ]


def test_a_proxy_of_a_server_with_a_name_still_names_a_next_server(tmp_path: Path) -> None:
    arguments = render_arguments(PROXY, mac=MAC, url="http://boot.example:8000", folder=tmp_path)
    assert "--dhcp-boot=tag:ipxe,http://boot.example:8000/boot.ipxe,,10.0.2.0" in arguments


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is installed by `make setup`")
@pytest.mark.parametrize("dhcp", [RANGE, PROXY])
def test_dnsmasq_takes_the_options(dhcp: Dhcp, tmp_path: Path) -> None:
    arguments = render_arguments(dhcp, mac=MAC, url=URL, folder=tmp_path)
    done = subprocess.run(["dnsmasq", "--test", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, "syntax check OK" in done.stderr) == (0, True), done.stderr
