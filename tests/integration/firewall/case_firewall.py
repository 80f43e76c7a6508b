"""The firewall from outside: a host and a peer, each in a network namespace of its own, joined by a pair of virtual NICs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(os.environ["QTRADE_TEST_ROOT"])
LIB = "/usr/lib/qtrade/ufw_solana"
HOST = {4: "203.0.113.1", 6: "2001:db8::1"}
PEER = {4: "203.0.113.2", 6: "2001:db8::2"}
SSH, TURBINE, RPC, ELSEWHERE = 22, 8005, 8899, 9999
TABLES = {4: "iptables", 6: "ip6tables"}
# Answers on TCP and UDP with what it got, for every port and address family.
ECHO = """
import select, socket, sys
kinds = {}
for port in map(int, sys.argv[1:]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET6, kind)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            one.listen()
        kinds[one] = "listener" if kind == socket.SOCK_STREAM else "datagrams"
print("ready", flush=True)
while True:
    for one in select.select(list(kinds), [], [])[0]:
        if kinds[one] == "listener":
            kinds[one.accept()[0]] = "stream"
        elif kinds[one] == "datagrams":
            data, sender = one.recvfrom(100)
            try:
                one.sendto(data, sender)
            except OSError:
                pass
        else:
            data = one.recv(100)
            one.sendall(data) if data else kinds.pop(one).__len__() and one.close()
"""
# Says what of ADDRESS answers: "tcp PORT" and "udp PORT" words in, those that did out.
PROBE = """
import json, socket, sys
address, found = sys.argv[1], []
family = socket.AF_INET6 if ":" in address else socket.AF_INET
for word in sys.argv[2:]:
    name, port = word.split("/")
    one = socket.socket(family, socket.SOCK_STREAM if name == "tcp" else socket.SOCK_DGRAM)
    one.settimeout(0.3)
    try:
        one.connect((address, int(port)))
        one.sendall(b"x")
        if one.recv(10) == b"x":
            found.append(word)
    except OSError:
        pass
print(json.dumps(found))
"""
# A connection that stays: each line in is sent, and what comes back is a line out.
HOLD = """
import socket, sys
one = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
for line in sys.stdin:
    one.sendall(line.encode())
    print(one.recv(100).decode(), end="", flush=True)
"""
ALL = tuple(f"{kind}/{port}" for port in (TURBINE, RPC, ELSEWHERE) for kind in ("tcp", "udp"))
OPEN = {f"tcp/{SSH}", f"tcp/{TURBINE}", f"udp/{TURBINE}"}


class Network:
    """A network namespace, held by a process."""

    def __init__(self) -> None:
        # The chamber counts processes anew, but /proc is the machine's: the holder says which one it is there.
        script = "ip link set lo up; read pid rest </proc/self/stat; echo $pid; exec sleep 600"
        command = ["unshare", "--net", "sh", "-c", script]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.namespace = f"/proc/{int(self.holder.stdout.readline())}/ns/net"

    def inside(self, *argv: str) -> list[str]:
        return ["nsenter", f"--net={self.namespace}", "--", *argv]

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.inside(*argv), capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
        return done

    def chroot(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of the image in this network."""
        return self.run("chroot", str(ROOT), *argv, check=check)

    def python(self, code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.Popen(self.inside(*words), stdout=subprocess.PIPE, text=True, **options)

    def probe(self, address: str, *words: str) -> set[str]:
        with self.python(PROBE, address, *words) as probe:
            return set(json.loads(probe.communicate(timeout=60)[0]))

    def tracked(self) -> int:
        return int(self.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count").stdout)


class Pair:
    """A host with listeners, and a peer that looks at it from outside."""

    def __init__(self) -> None:
        self.host, self.peer = Network(), Network()
        target = str(self.peer.holder.pid)
        self.host.run("ip", "link", "add", "nic", "type", "veth", "peer", "name", "nic", "netns", target)
        for network, addresses in ((self.host, HOST), (self.peer, PEER)):
            network.run("ip", "address", "add", f"{addresses[4]}/24", "dev", "nic")
            network.run("ip", "address", "add", f"{addresses[6]}/64", "dev", "nic", "nodad")
            network.run("ip", "link", "set", "nic", "up")
        self.listeners = [one.python(ECHO, SSH, TURBINE, RPC, ELSEWHERE) for one in (self.host, self.peer)]
        for listener in self.listeners:
            assert listener.stdout.readline() == "ready\n"

    def close(self) -> None:
        for process in (*self.listeners, self.host.holder, self.peer.holder):
            process.kill()
            process.communicate()

    def load(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Start ufw.service, as the image has it."""
        drop_in = (ROOT / "etc/systemd/system/ufw.service.d/10-qtrade.conf").read_text()
        (start,) = [line.removeprefix("ExecStart=") for line in drop_in.splitlines() if line.startswith("ExecStart=/")]
        return self.host.chroot(*start.split(), check=check)

    def seen(self, version: int) -> set[str]:
        """Return what of the host answers the peer."""
        return self.peer.probe(HOST[version], f"tcp/{SSH}", *ALL)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.fixture(params=[4, 6])
def broken(request: pytest.FixtureRequest) -> Iterator[int]:
    """The IP version whose rules hold a line that no iptables takes."""
    path = ROOT / f"{LIB.lstrip('/')}/boot.v{request.param}.rules"
    text = path.read_text()
    path.write_text(text.replace("COMMIT\n", "-A INPUT -j NO-SUCH-TARGET\nCOMMIT\n", 1))
    yield request.param
    path.write_text(text)


def test_without_rules_everything_answers(pair: Pair) -> None:
    for version in (4, 6):
        assert pair.seen(version) == {f"tcp/{SSH}", *ALL}


@pytest.mark.parametrize("version", [4, 6])
def test_what_the_rules_open_answers_and_nothing_else(version: int, pair: Pair) -> None:
    pair.load()
    assert pair.seen(version) == OPEN
    assert pair.host.probe(PEER[version], f"tcp/{RPC}", f"udp/{ELSEWHERE}") == {f"tcp/{RPC}", f"udp/{ELSEWHERE}"}


def test_the_fault_leaves_a_version_open_without_the_fallback(broken: int, pair: Pair) -> None:
    done = pair.host.chroot(f"{TABLES[broken]}-restore", f"{LIB}/boot.v{broken}.rules", check=False)
    assert done.returncode != 0
    assert "NO-SUCH-TARGET" in done.stderr
    assert pair.seen(broken) == {f"tcp/{SSH}", *ALL}


def test_a_version_whose_rules_are_refused_is_closed_but_for_ssh(broken: int, pair: Pair) -> None:
    other = 10 - broken
    hold = pair.peer.python(HOLD, HOST[broken], SSH, stdin=subprocess.PIPE)
    hold.stdin.write("before\n")
    hold.stdin.flush()
    assert hold.stdout.readline() == "before\n"
    done = pair.load(check=False)
    assert done.returncode == 1
    assert f"boot.v{broken}.rules is refused" in done.stderr
    assert "OPEN" not in done.stderr
    assert pair.seen(broken) == {f"tcp/{SSH}"}
    assert pair.host.probe(PEER[broken], *ALL) == set(), "nothing goes out either"
    # What stood before goes on, and the host reaches itself.
    hold.stdin.write("after\n")
    hold.stdin.flush()
    assert hold.stdout.readline() == "after\n"
    hold.kill()
    hold.communicate()
    assert pair.host.probe(HOST[broken], *ALL) == set(ALL)
    # The other version has its own rules, whichever of the two was first.
    assert pair.seen(other) == OPEN


def test_the_next_good_start_brings_the_rules_back(broken: int, pair: Pair) -> None:
    assert pair.load(check=False).returncode == 1
    assert pair.seen(broken) == {f"tcp/{SSH}"}
    path = ROOT / f"{LIB.lstrip('/')}/boot.v{broken}.rules"
    bad = path.read_text()
    path.write_text(bad.replace("-A INPUT -j NO-SUCH-TARGET\n", ""))
    assert pair.load().stderr == ""
    assert pair.seen(broken) == OPEN
    assert pair.host.probe(PEER[broken], f"tcp/{RPC}") == {f"tcp/{RPC}"}


def test_an_allow_list_opens_nothing_of_a_closed_version(broken: int, pair: Pair) -> None:
    pair.load(check=False)
    allow = "*filter\n:qtrade-allow-in - [0:0]\n-A qtrade-allow-in -p tcp --dport 8899 -j ACCEPT\nCOMMIT\n"
    (ROOT / "run/allow").write_text(allow)
    pair.host.chroot(f"{TABLES[broken]}-restore", "--noflush", "/run/allow")
    assert pair.seen(broken) == {f"tcp/{SSH}"}


def counters(pair: Pair, version: int) -> dict[str, int]:
    """Return the packets that each rule against tracking saw, by chain."""
    found = {}
    for chain in ("PREROUTING", "OUTPUT"):
        listed = pair.host.chroot(TABLES[version], "-t", "raw", "-nvxL", chain).stdout
        (line,) = [one for one in listed.splitlines() if " CT " in one and "notrack" in one]
        found[chain] = int(line.split()[0])
    return found


@pytest.mark.parametrize("version", [4, 6])
def test_the_validators_datagrams_are_not_tracked_in_either_direction(version: int, pair: Pair) -> None:
    pair.load()
    before = pair.host.tracked()
    assert pair.peer.probe(HOST[version], *[f"udp/{TURBINE}"] * 5) == {f"udp/{TURBINE}"}
    assert pair.host.tracked() == before
    assert counters(pair, version) == {"PREROUTING": 5, "OUTPUT": 5}
    # The count does count: an answer to a port of no validator is let in because it is tracked.
    assert pair.host.probe(PEER[version], f"udp/{ELSEWHERE}") == {f"udp/{ELSEWHERE}"}
    assert pair.host.tracked() == before + 1
    assert counters(pair, version) == {"PREROUTING": 5, "OUTPUT": 5}


@pytest.mark.parametrize("version", [4, 6])
def test_tracking_is_what_the_rules_save(version: int, pair: Pair) -> None:
    """The same datagrams, with the table raw emptied: one entry for each peer's port."""
    pair.load()
    pair.host.chroot(TABLES[version], "-t", "raw", "-F")
    before = pair.host.tracked()
    assert pair.peer.probe(HOST[version], *[f"udp/{TURBINE}"] * 5) == {f"udp/{TURBINE}"}
    assert pair.host.tracked() == before + 5
