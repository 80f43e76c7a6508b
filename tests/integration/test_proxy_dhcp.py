"""What our DHCP server tells a card, asked as cards ask: alone in its network, and beside the server that is there already."""

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from qtrade.machine.argv import GATEWAY, GUEST_ADDRESS
from tests.fakes.segment import NEIGHBOUR, Segment, neighbours_dhcp, open_segment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MAC, URL = "52:54:00:aa:bb:01", f"http://{GATEWAY}:8000"
DISCOVER, REQUEST = 1, 3
BIOS, UEFI, UEFI_TOO, UEFI_HTTP = 0, 7, 9, 16
CONTROLLER = """
import sys, time
from ipaddress import IPv4Address
from pathlib import Path
from flash.netboot.dnsmasq import Dnsmasq
from qtrade.manifest.host import Dhcp

kind, mac, url, loaders = sys.argv[1:]
where = {"subnet": IPv4Address("10.0.2.0")} if kind == "proxy" else {"range": (IPv4Address(kind), IPv4Address(kind))}
server = Dnsmasq(Dhcp(interface="br0", **where), mac=mac, url=url, loaders=Path(loaders))
print(server.log, flush=True)
time.sleep(100)
"""
# A card in the neighbour's network: one DISCOVER (and one REQUEST to the boot server's port), every answer in hex.
CARD = """
import socket, sys, time
packet, port = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
card = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
card.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
card.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
card.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wire1")
card.bind(("", 68))
card.sendto(packet, ("255.255.255.255" if port == 67 else sys.argv[3], port))
card.settimeout(0.2)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        print(card.recv(2048).hex(), flush=True)
    except TimeoutError:
        pass
"""


@pytest.fixture
def segment() -> Iterator[Segment]:
    with open_segment() as made:
        yield made


class Network:
    """A segment with our server, which answers beside a neighbour's or alone."""

    def __init__(self, segment: Segment, folder: Path, *, beside: bool) -> None:
        self.segment, self.folder, self.beside = segment, folder, beside
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        loaders = self.folder / "loaders"
        loaders.mkdir()
        for name in ("undionly.kpxe", "snponly.efi"):
            (loaders / name).write_bytes(name.encode())
        if self.beside:
            self._stack.enter_context(neighbours_dhcp(self.segment, self.folder))
        kind = "proxy" if self.beside else GUEST_ADDRESS
        argv = [
            "ip",
            "netns",
            "exec",
            self.segment.netns,
            sys.executable,
            "-c",
            CONTROLLER,
            kind,
            MAC,
            URL,
            str(loaders),
        ]
        controller = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._stack.callback(controller.wait)
        self._stack.callback(controller.kill)
        assert controller.stdout is not None
        with controller.stdout:
            assert controller.stdout.readline().strip(), "our server did not start"
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(
        self,
        arch: int,
        *,
        mac: str = MAC,
        is_ipxe: bool = False,
        is_http: bool = False,
        port: int = 67,
        item: bytes = b"",
    ) -> list[dict]:
        packet = discover(
            mac, arch, is_ipxe=is_ipxe, is_http=is_http, kind=DISCOVER if port == 67 else REQUEST, item=item
        )
        argv = [
            "ip",
            "netns",
            "exec",
            self.segment.neighbour,
            sys.executable,
            "-c",
            CARD,
            packet.hex(),
            str(port),
            GATEWAY,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        return [parse(bytes.fromhex(line)) for line in done.stdout.split()]


def discover(mac: str, arch: int, *, is_ipxe: bool, is_http: bool, kind: int, item: bytes) -> bytes:
    hardware = bytes.fromhex(mac.replace(":", ""))
    # By the time that it asks the boot server, a card has an address.
    own = socket.inet_aton(NEIGHBOUR) if kind == REQUEST else bytes(4)
    head = struct.pack(">BBBBIHH4s4s4s4s", 1, 1, 6, 0, 0x1234, 0, 0x8000, own, *[bytes(4)] * 3)
    vendor = f"{'HTTP' if is_http else 'PXE'}Client:Arch:{arch:05}:UNDI:003001".encode()
    options = {53: bytes([kind]), 55: bytes([1, 3, 6, 43, 54, 60, 66, 67]), 60: vendor, 93: struct.pack(">H", arch)}
    options |= {94: b"\x01\x03\x01", 97: bytes(17)}
    if item:
        options[43] = bytes([71, 4]) + item + b"\0\0\xff"
    if is_ipxe:
        options[77] = b"iPXE"
    text = b"".join(bytes([code, len(value)]) + value for code, value in options.items())
    return head + hardware.ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63" + text + b"\xff"


def parse(packet: bytes) -> dict:
    """Return who answered, the address that it offers, and the boot file with its server."""
    found = {"offers": socket.inet_ntoa(packet[16:20]), "next": socket.inet_ntoa(packet[20:24])}
    found["file"] = packet[108:236].rstrip(b"\0").decode()
    at = 240
    while packet[at] != 255:
        code, size = packet[at], packet[at + 1] if packet[at] else 0
        value = packet[at + 2 : at + 2 + size]
        if code == 54:
            found["from"] = socket.inet_ntoa(value)
        if code == 67:
            found["file"] = value.rstrip(b"\0").decode()
        if code == 43 and b"\x09" in value:
            menu = value.index(b"\x09")
            found["item"] = value[menu + 2 : menu + 4]
        if code == 60:
            found["class"] = value.decode()
        at += 1 if code == 0 else 2 + size
    return found


def ours(answers: list[dict]) -> dict:
    (found,) = [one for one in answers if one.get("from") == GATEWAY]
    return found


def test_beside_another_server_ours_gives_no_address_but_says_what_to_boot(segment, tmp_path) -> None:
    with Network(segment, tmp_path, beside=True) as network:
        answers = network.ask(UEFI)
        assert {one["from"] for one in answers} == {GATEWAY, NEIGHBOUR}
        offer = ours(answers)
        assert (offer["offers"], offer["class"]) == ("0.0.0.0", "PXEClient")
        # UEFI is told whom to ask, and asks that one's port 4011.
        for arch in (UEFI, UEFI_TOO):
            assert ours(network.ask(arch))["next"] == GATEWAY
            found = ours(network.ask(arch, port=4011))
            assert (found["file"], found["next"]) == ("snponly.efi", GATEWAY), arch
        # A BIOS card gets a menu, and asks the boot server's port for the first item of it.
        item = ours(network.ask(BIOS))["item"]
        found = ours(network.ask(BIOS, port=4011, item=item))
        assert (found["file"], found["next"]) == ("undionly.kpxe", GATEWAY)
        for arch in (BIOS, UEFI):
            # Without a next server, iPXE passes over what a proxy tells it to boot.
            script = ours(network.ask(arch, is_ipxe=True))
            assert (script["file"], script["next"]) == (f"{URL}/boot.ipxe", GATEWAY)


def test_beside_another_server_ours_says_nothing_to_strangers(segment, tmp_path) -> None:
    with Network(segment, tmp_path, beside=True) as network:
        for port in (67, 4011):
            answers = network.ask(UEFI, mac="52:54:00:aa:bb:99", port=port)
            assert {one["from"] for one in answers} <= {NEIGHBOUR}


def test_alone_ours_gives_the_address_too(segment, tmp_path) -> None:
    with Network(segment, tmp_path, beside=False) as network:
        for arch, file in ((BIOS, "undionly.kpxe"), (UEFI, "snponly.efi"), (UEFI_TOO, "snponly.efi")):
            offer = ours(network.ask(arch))
            assert (offer["offers"], offer["file"]) == (GUEST_ADDRESS, file), arch
        assert ours(network.ask(UEFI, is_ipxe=True))["file"] == f"{URL}/boot.ipxe"
        http = ours(network.ask(UEFI_HTTP, is_http=True))
        assert (http["file"], http["class"]) == (f"{URL}/ipxe.efi", "HTTPClient")
        assert network.ask(UEFI, mac="52:54:00:aa:bb:99") == []
