"""A network of a test's own: a bridge with a tap for a machine, the controller on it, and if need be a neighbour that has a DHCP server."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtrade import process
from qtrade.machine.argv import GATEWAY

if TYPE_CHECKING:
    import subprocess

NEIGHBOUR = "10.0.2.1"
OFFERED = ("10.0.2.100", "10.0.2.120")


@dataclass(frozen=True)
class Segment:
    """`netns` is where the controller and the machine are, `neighbour` where the other end of the wire is."""

    netns: str
    neighbour: str
    bridge: str = "br0"
    tap: str = "tap0"
    wire: str = "wire1"


@contextmanager
def open_segment() -> Iterator[Segment]:
    """Make it for the length of a `with` block. Needs root."""
    made = Segment(f"qt-seg-{os.getpid()}", f"qt-nb-{os.getpid()}")
    with ExitStack() as stack:
        for name in (made.netns, made.neighbour):
            process.run(["ip", "netns", "add", name])
            stack.callback(process.run, ["ip", "netns", "delete", name], check=False)
        inside = ["ip", "-n", made.netns]
        process.run([*inside, "link", "add", made.bridge, "type", "bridge"])
        process.run([*inside, "tuntap", "add", "dev", made.tap, "mode", "tap"])
        process.run(
            [*inside, "link", "add", "wire0", "type", "veth", "peer", "name", made.wire, "netns", made.neighbour]
        )
        for port in (made.tap, "wire0"):
            process.run([*inside, "link", "set", port, "master", made.bridge, "up"])
        process.run([*inside, "address", "add", f"{GATEWAY}/24", "dev", made.bridge])
        process.run(["ip", "-n", made.neighbour, "address", "add", f"{NEIGHBOUR}/24", "dev", made.wire])
        for link in ("lo", made.bridge):
            process.run([*inside, "link", "set", link, "up"])
        process.run(["ip", "-n", made.neighbour, "link", "set", made.wire, "up"])
        yield made


@contextmanager
def neighbours_dhcp(segment: Segment, folder: Path) -> Iterator[Path]:
    """Have the neighbour give addresses and nothing else, as a network's own DHCP server does; returns its log."""
    program = shutil.which("dnsmasq", path=process.CLEAN_PATH) or "dnsmasq"
    log = folder / "neighbour.log"
    argv = [
        "ip", "netns", "exec", segment.neighbour, program, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--log-dhcp",
        "--log-facility=-", "--user=root", "--group=root", f"--interface={segment.wire}", "--bind-interfaces", "--no-ping",
        f"--dhcp-range={OFFERED[0]},{OFFERED[1]},10m", f"--dhcp-leasefile={folder}/neighbour.leases",
    ]  # fmt: skip
    child: subprocess.Popen[bytes] = process.spawn(argv, log=log, dies_with_us=True)
    try:
        yield log
    finally:
        process.kill_group(child)
