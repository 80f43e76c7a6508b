"""The lab host's NIC in a network namespace, so that a test can see all of its ports, as a neighbour would. Needs root."""

import base64
import json
import urllib.error
import urllib.request

from flash.lab.host import LabHost
from qtrade import process
from qtrade.errors import HostError
from qtrade.machine.argv import GATEWAY, GATEWAY_V6
from qtrade.machine.spec import TapNetwork

_TIMEOUT_S = 10


def make_tap(netns: str, ifname: str = "tap0") -> TapNetwork:
    """Make a network namespace with a tap that has the gateway's addresses. There is no DHCP in it. Raises `ToolError`."""
    process.run(["ip", "netns", "add", netns])
    inside = ["ip", "-n", netns]
    process.run([*inside, "tuntap", "add", "dev", ifname, "mode", "tap"])
    process.run([*inside, "address", "add", f"{GATEWAY}/24", "dev", ifname])
    process.run([*inside, "address", "add", f"{GATEWAY_V6}/64", "dev", ifname, "nodad"])
    for link in ("lo", ifname):
        process.run([*inside, "link", "set", link, "up"])
    return TapNetwork(ifname, netns)


def remove_tap(netns: str) -> None:
    """Remove a namespace with all that is in it; nothing happens when there is none. Take the host off it before."""
    process.run(["ip", "netns", "delete", netns], check=False)


def attach_tap(host: LabHost, tap: TapNetwork | None) -> None:
    """Have the host's next start use `tap`, or QEMU's own network again. Raises `HostError` when the BMC refuses."""
    wanted = {"Ifname": tap.ifname, "Netns": tap.netns} if tap else None
    access = host.access
    login = base64.b64encode(f"{access.username}:{access.password_file.read_text().strip()}".encode()).decode()
    request = urllib.request.Request(  # noqa: S310 - the lab's own BMC, on 127.0.0.1
        f"{access.url}{access.system}",
        method="PATCH",
        data=json.dumps({"Oem": {"Qtrade": {"Tap": wanted}}}).encode(),
        headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
    )
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_TIMEOUT_S).close()
    except (urllib.error.URLError, OSError) as error:
        raise HostError(f"the BMC of {host.facts.name} did not take the tap", details=str(error)) from error
