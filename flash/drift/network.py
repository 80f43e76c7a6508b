"""Compare what the network reaches: listening ports and the packet filter."""

from collections.abc import Iterator
from ipaddress import ip_address

from flash.drift.expected import Expected
from flash.drift.findings import Finding, Remedy
from flash.drift.observation import FirewallPart, Interface, Observation, PortsPart, Socket
from qtrade.manifest import DriftKind

# systemd-resolved's own (systemd-resolved.service(8)).
_RESOLVED = {("127.0.0.53", 53), ("127.0.0.54", 53)}
# systemd-networkd renews leases from these.
_LEASES = {68, 546}


def compare_ports(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare listening sockets with the interfaces that the image's roles declare. A UDP socket on a client's port is a client's."""
    ports = observation.ports
    if ports is None:
        return
    for socket in ports.found:
        if not _is_known(socket, ports, uses_dhcp=expected.uses_dhcp):
            owner = _owner(socket.uid, observation)
            subject = f"{socket.protocol} {_join(socket)}"
            yield Finding(
                DriftKind.PORT, subject, f"{owner} listens where no role of the image declares it", Remedy.REBOOT, "closed",
                f"open, by uid {socket.uid}",
            )  # fmt: skip


def _is_known(socket: Socket, ports: PortsPart, *, uses_dhcp: bool) -> bool:
    if (socket.address, socket.port) in _RESOLVED:
        return True
    if socket.protocol == "tcp" and socket.port in ports.ssh:
        return True
    first, last = ports.ephemeral
    if socket.protocol == "udp" and (first <= socket.port <= last or (uses_dhcp and socket.port in _LEASES)):
        return True
    return any(_fits(socket, one) for one in ports.declared)


def _fits(socket: Socket, one: Interface) -> bool:
    if socket.protocol not in one.transport:
        return False
    first, last = (one.port, one.port) if one.port is not None else (one.first, one.end)
    if first is None or last is None or not first <= socket.port <= last:
        return False
    return one.exposure not in ("loopback", "private") or ip_address(socket.address).is_loopback


def _join(socket: Socket) -> str:
    return f"[{socket.address}]:{socket.port}" if ":" in socket.address else f"{socket.address}:{socket.port}"


def _owner(uid: int, observation: Observation) -> str:
    users = observation.accounts.found.users if observation.accounts else {}
    return next((name for name, user in users.items() if user.uid == str(uid)), f"uid {uid}")


def compare_firewall(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the kernel's rules with those of the image and the host's allow list, chain by chain, in order."""
    del expected
    firewall = observation.firewall
    if firewall is None:
        return
    for version in ("v4", "v6"):
        yield from _compare_chains(version, firewall)
    for table in sorted({*firewall.declared.tables} ^ {*firewall.found.tables}):
        is_more = table in firewall.found.tables
        what = "a table of nftables was added" if is_more else "a table of nftables is missing"
        yield _firewall(table, what, "none" if is_more else table, table if is_more else "none")


def _compare_chains(version: str, firewall: FirewallPart) -> Iterator[Finding]:
    declared: dict[str, tuple[str, ...]] = getattr(firewall.declared, version)
    found: dict[str, tuple[str, ...]] = getattr(firewall.found, version)
    for chain in sorted({*declared, *found}):
        wanted, there = declared.get(chain, ()), found.get(chain, ())
        if wanted == there:
            continue
        more = [rule for rule in there if rule not in wanted]
        less = [rule for rule in wanted if rule not in there]
        what = (
            "rules were added"
            if more and not less
            else "rules are missing"
            if less and not more
            else "rules were changed"
        )
        if not more and not less:
            what, less, more = "rules stand in another order", list(wanted), list(there)
        yield _firewall(f"{version} {chain}", what, "\n".join(less) or "none", "\n".join(more) or "none")


def _firewall(subject: str, what: str, expected: str, found: str) -> Finding:
    return Finding(DriftKind.FIREWALL, subject, what, Remedy.REBOOT, expected, found)
