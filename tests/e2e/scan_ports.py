"""Scan the TCP ports of an address, and a few UDP ports; print what answered as JSON. Bounded: one connection per port.

scan_ports.py ADDRESS [EXPECTED ...]     wait until the expected ports answer, then scan all TCP ports, or with --every N one of N
scan_ports.py ADDRESS --only PORT ...    look at these TCP ports only
"""

import argparse
import errno
import json
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterable

BATCH = 6000
WAIT_S = 4.0
BOOT_S = 240.0
# The firewall refuses whoever knocks at SSH six times in 30 s.
POLL_S = 7.0
# One port of the validator's range without a listener, and some that the firewall must swallow.
UDP_PORTS = (8030, 9999, 5432, 10000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("expected", type=int, nargs="*")
    parser.add_argument("--only", type=int, nargs="+")
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    family = socket.AF_INET6 if ":" in arguments.address else socket.AF_INET
    if arguments.only:
        opened, refused = scan(family, arguments.address, arguments.only)
        sys.stdout.write(json.dumps({"open": sorted(opened), "refused": sorted(refused)}))
    else:
        scan_all(family, arguments.address, arguments.expected, arguments.every)


def scan_all(family: int, address: str, expected: list[int], every: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (BATCH + 500, BATCH + 500))
    wait_for(family, address, expected)
    opened, refused = [], []
    ports = range(1, 65536, every)
    for first in range(0, len(ports), BATCH):
        batch = scan(family, address, ports[first : first + BATCH])
        opened += batch[0]
        refused += batch[1]
    # Thousands of packets at once may cost one its way three times; an expected port that was asked alone has an excuse no more.
    opened += [port for port in expected if port not in opened and answers(family, address, port)]
    udp = [port for port in UDP_PORTS if is_refused(family, address, port)]
    sys.stdout.write(json.dumps({"open": sorted(opened), "refused": sorted(refused), "udp_refused": udp}))


def wait_for(family: int, address: str, ports: list[int]) -> None:
    """Wait until all `ports` answer, so that a scan does not judge a host that is still on its way up."""
    missing = list(ports)
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline:
        missing = [port for port in missing if not answers(family, address, port)]
        if not missing:
            return
        time.sleep(POLL_S)
    sys.exit(f"{address} does not answer on {missing} after {BOOT_S:.0f} s")


def answers(family: int, address: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(3)
        return probe.connect_ex((address, port)) == 0


def scan(family: int, address: str, ports: Iterable[int]) -> tuple[list[int], list[int]]:
    opened, refused = [], []
    with selectors.DefaultSelector() as selector:
        for port in ports:
            probe = socket.socket(family, socket.SOCK_STREAM)
            probe.setblocking(False)
            probe.connect_ex((address, port))
            selector.register(probe, selectors.EVENT_WRITE, port)
        deadline = time.monotonic() + WAIT_S
        while (left := deadline - time.monotonic()) > 0 and selector.get_map():
            for key, _ in selector.select(left):
                error = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error == 0:
                    opened.append(key.data)
                elif error == errno.ECONNREFUSED:
                    refused.append(key.data)
                selector.unregister(key.fileobj)
                key.fileobj.close()
        for key in list(selector.get_map().values()):
            key.fileobj.close()
    return opened, refused


def is_refused(family: int, address: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.settimeout(2)
        probe.connect((address, port))
        for _ in range(2):
            try:
                probe.send(b"?")
                probe.recv(1)
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                continue
    return False


if __name__ == "__main__":
    main()
