"""What ufw_solana promises."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.backend.base import CommandResult
    from testinfra.host import Host

LIB = "/usr/lib/qtrade/ufw_solana"
CHECK = f"python3 -I -B {LIB}/allow_list.py --check"
FAMILIES = [("/usr/sbin/iptables-save", "ufw-user"), ("/usr/sbin/ip6tables-save", "ufw6-user")]
BOOT_RULES = [("v4", "ufw"), ("v6", "ufw6")]
PRIVATE = {
    "/usr/sbin/iptables-save": ("ufw-user", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]),
    "/usr/sbin/ip6tables-save": ("ufw6-user", ["fc00::/7", "fe80::/10"]),
}


def baked(host: Host, name: str) -> Any:
    """Return an argument of the role as the layer was baked with it."""
    return json.loads(host.file("/usr/share/qtrade/arguments.d/ufw_solana.json").content_string)["arguments"][name]


def public_ports(host: Host) -> str:
    """Return the range that is open to all, as iptables writes it."""
    return str(baked(host, "agave_port_range")).replace("-", ":")


def interfaces(host: Host) -> list[dict[str, Any]]:
    """Return every way to the image's services that its roles declare."""
    paths = host.check_output("ls -d /usr/share/qtrade/interfaces.d/*.json").split()
    return [one for path in paths for one in json.loads(host.file(path).content_string)["interfaces"]]


def check_list(host: Host, text: str) -> CommandResult:
    """Return the run of the allow list's checker over a text."""
    return host.run(f"f=/tmp/spec-allow.rules; printf '{text}' > $f; {CHECK} $f; code=$?; rm $f; exit $code")


@pytest.mark.layer
@pytest.mark.parametrize("name", ["user.rules", "user6.rules"])
def test_rules_are_baked(host: Host, name: str) -> None:
    rules = host.file(f"/etc/ufw/{name}")
    assert (rules.mode, rules.user) == (0o640, "root")
    opened = re.findall(r"^### tuple ### ((?:limit|allow) \S+ \S+) \S+ \S+ \S+ in$", rules.content_string, re.MULTILINE)
    assert opened == ["limit tcp 22", f"allow tcp {public_ports(host)}", f"allow udp {public_ports(host)}"]


@pytest.mark.layer
@pytest.mark.booted
@pytest.mark.parametrize(("version", "prefix"), BOOT_RULES)
def test_boot_loads_the_whole_table_in_one_step(host: Host, version: str, prefix: str) -> None:
    rules = host.file(f"{LIB}/boot.{version}.rules").content_string.splitlines()
    assert [line for line in rules if line.startswith(("*", "COMMIT"))] == ["*filter", "COMMIT", "*raw", "COMMIT"]
    assert {":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]"} <= set(rules)
    # The host's allow list and loopback are asked before anything is refused.
    assert rules.index(f"-A {prefix}-before-input -i lo -j ACCEPT") < rules.index(
        f"-A {prefix}-before-input -j {prefix}-user-input"
    )
    assert rules.index(f"-A {prefix}-user-output -j qtrade-allow-out") < min(
        number for number, rule in enumerate(rules) if rule.endswith("-j REJECT") and "-d " in rule
    )


@pytest.mark.layer
def test_boot_rules_are_what_ufw_says(host: Host) -> None:
    done = host.run(f"python3 -I -B {LIB}/compose.py --check")
    assert done.succeeded, done.stderr


@pytest.mark.layer
@pytest.mark.parametrize("name", ["iptables", "ip6tables"])
def test_boot_rules_are_the_rules_of_ufw_init(host: Host, name: str) -> None:
    """Load both in turn, in a network namespace of their own: the kernel has to hold the same."""
    if host.run("unshare -n iptables -L -n").failed:
        pytest.skip("this kernel filters no packets")
    version = "v6" if name == "ip6tables" else "v4"
    ours = host.check_output(f"unshare -n sh -c '{name}-restore {LIB}/boot.{version}.rules && {name}-save -t filter'")
    theirs = host.check_output(f"unshare -n sh -c '/usr/lib/ufw/ufw-init start && {name}-save -t filter'")
    assert sort_chains(ours) == sort_chains(theirs)


def sort_chains(saved: str) -> dict[str, list[str]]:
    """Return each chain's policy and rules in order, from what iptables-save printed."""
    chains: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if line.startswith(":"):
            name, policy, _ = line[1:].split()
            chains.setdefault(name, []).insert(0, policy)
        elif line.startswith("-A "):
            chains.setdefault(line.split()[1], []).append(line)
    return chains


@pytest.mark.layer
@pytest.mark.booted
def test_ufw_is_started_in_one_step_and_never_opens_the_host(host: Host) -> None:
    drop_in = host.file("/etc/systemd/system/ufw.service.d/10-qtrade.conf").content_string.splitlines()
    starts = [line.removeprefix("ExecStart=") for line in drop_in if line.startswith("ExecStart=")]
    assert starts == ["", f"/bin/sh {LIB}/load_boot.sh"]
    assert "ExecStop=" in drop_in


@pytest.mark.layer
@pytest.mark.parametrize(("version", "name"), [("v4", "iptables"), ("v6", "ip6tables")])
def test_the_rules_for_the_worst_day_can_be_loaded(host: Host, version: str, name: str) -> None:
    if host.run("unshare -n iptables -L -n").failed:
        pytest.skip("this kernel filters no packets")
    saved = host.check_output(
        f"unshare -n sh -c '{name}-restore {LIB}/closed.{version}.rules && {name}-save -t filter'"
    )
    assert {":INPUT DROP [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT DROP [0:0]"} <= set(saved.splitlines())
    accepted = [line for line in saved.splitlines() if line.startswith("-A INPUT") and "-p tcp" in line]
    assert accepted == ["-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"]


@pytest.mark.layer
def test_firewall_is_on_at_boot_and_denies(host: Host) -> None:
    assert host.file("/etc/ufw/ufw.conf").contains("^ENABLED=yes")
    defaults = host.file("/etc/default/ufw")
    assert defaults.contains('^DEFAULT_INPUT_POLICY="DROP"')
    assert defaults.contains('^DEFAULT_FORWARD_POLICY="DROP"')
    assert defaults.contains("^IPV6=yes")
    for unit in ("ufw.service", "qtrade-firewall.service"):
        assert host.check_output(f"systemctl is-enabled {unit}") == "enabled"
    assert host.run("systemctl is-enabled nftables.service").stdout.strip() != "enabled"


@pytest.mark.host
def test_range_is_the_one_of_the_running_validator(host: Host) -> None:
    found = re.findall(r"--dynamic-port-range[ =](\d+)-(\d+)", host.check_output("ps -ww -eo args"))
    assert found, "no validator runs"
    rules = host.file(f"{LIB}/boot.v4.rules").content_string
    for first, last in found:
        assert int(last) - int(first) >= 26
        assert f"-p udp -m multiport --dports {first}:{last} -j ACCEPT" in rules
        assert f"-p tcp -m multiport --dports {first}:{last} -j ACCEPT" in rules


@pytest.mark.layer
def test_ssh_and_ways_out_can_be_allowed_whatever_else_the_image_has(host: Host) -> None:
    done = check_list(host, "in ssh 192.0.2.0/24\\nout 10.0.0.0/24\\n")
    assert done.succeeded, done.stderr
    assert "-A qtrade-allow-in -s 192.0.2.0/24 -p tcp --dport 22 -j ACCEPT" in done.stdout
    assert "-A qtrade-allow-out -d 10.0.0.0/24 -j ACCEPT" in done.stdout


@pytest.mark.image
def test_allow_list_opens_the_ports_that_the_roles_declare_by_family(host: Host) -> None:
    listed = {one["name"]: one["port"] for one in interfaces(host) if one["exposure"] == "allow-list"}
    assert {"json-rpc", "websocket", "grpc"} <= set(listed)
    for name, port in listed.items():
        done = check_list(host, f"in {name} 192.0.2.0/24\\nin {name} 2001:db8::/32\\n")
        assert done.succeeded, done.stderr
        for network in ("192.0.2.0/24", "2001:db8::/32"):
            assert f"-A qtrade-allow-in -s {network} -p tcp --dport {port} -j ACCEPT" in done.stdout


@pytest.mark.image
def test_what_is_for_this_host_only_cannot_be_allowed(host: Host) -> None:
    private = [one["name"] for one in interfaces(host) if one["exposure"] in ("loopback", "private")]
    assert {"admin", "postgres", "plugin-metrics"} <= set(private)
    for name in private:
        done = check_list(host, f"in {name} 192.0.2.0/24\\n")
        assert done.failed
        assert "is no interface for allow lists" in done.stderr


@pytest.mark.image
def test_the_world_reaches_what_its_owner_declares_public_and_nothing_else(host: Host) -> None:
    (span,) = [one for one in interfaces(host) if "first" in one]
    assert public_ports(host) == f"{span['first']}:{span['end']}"
    opened = range(span["first"], span["end"] + 1)
    for one in interfaces(host):
        if "port" in one:
            assert (one["port"] in opened) == (one["exposure"] == "public"), one["name"]


@pytest.mark.layer
@pytest.mark.parametrize(
    "line",
    [
        "in no-such-way 192.0.2.0/24",
        "in ssh 0.0.0.0/0",
        "in ssh 128.0.0.0/1",
        "in ssh 2000::/3",
        "in ssh 192.0.2.1/24",
        "in tcp 22 ::1",
        "-F INPUT",
    ],
)
def test_broken_allow_list_is_refused(host: Host, line: str) -> None:
    done = check_list(host, f"in ssh 192.0.2.0/24\\n{line}\\n")
    assert done.failed
    assert "line 2" in done.stderr


@pytest.mark.booted
@pytest.mark.parametrize(("save", "chain"), FAMILIES)
def test_kernel_has_the_rules(host: Host, save: str, chain: str) -> None:
    rules = host.check_output(f"sudo -n {save}")
    assert ":INPUT DROP" in rules
    assert ":FORWARD DROP" in rules
    assert f"-A {chain}-input -p udp -m multiport --dports {public_ports(host)} -j ACCEPT" in rules
    assert f"-A {chain}-input -j qtrade-allow-in" in rules


@pytest.mark.booted
@pytest.mark.parametrize("name", ["iptables", "ip6tables"])
def test_the_validators_datagrams_are_not_tracked(host: Host, name: str) -> None:
    ours = host.file(f"{LIB}/raw.rules").content_string.splitlines()
    saved = host.check_output(f"sudo -n /usr/sbin/{name}-save").splitlines()
    wanted = [line for line in ours if line.startswith("-A ")]
    assert len(wanted) == 2
    assert [line for line in saved if "-j CT" in line] == wanted


@pytest.mark.booted
@pytest.mark.parametrize("save", PRIVATE)
def test_private_networks_are_not_reached(host: Host, save: str) -> None:
    chain, networks = PRIVATE[save]
    rules = host.check_output(f"sudo -n {save}")
    for network in networks:
        assert f"-A {chain}-output -d {network} -j REJECT" in rules


@pytest.mark.booted
@pytest.mark.parametrize(("save", "ports"), [("iptables", (68, 67)), ("ip6tables", (546, 547))])
def test_leases_can_be_renewed(host: Host, save: str, ports: tuple[int, int]) -> None:
    rules = host.check_output(f"sudo -n /usr/sbin/{save}-save").splitlines()
    allowed = [rule for rule in rules if f"--sport {ports[0]} --dport {ports[1]} -j ACCEPT" in rule]
    assert len(allowed) == 1
    refused = [rule for rule in rules if "-user-output -d " in rule]
    assert rules.index(allowed[0]) < min(map(rules.index, refused))


@pytest.mark.booted
@pytest.mark.parametrize(("save", "mask"), [("iptables", "255.255.255.255"), ("ip6tables", "ffff:ffff:ffff:ffff::")])
def test_ssh_is_rate_limited_by_source(host: Host, save: str, mask: str) -> None:
    rules = host.check_output(f"sudo -n /usr/sbin/{save}-save")
    assert f"--mask {mask}" in next(line for line in rules.splitlines() if "--hitcount 6" in line)


@pytest.mark.booted
def test_only_the_intended_ports_are_open_to_others(host: Host) -> None:
    """Gossip and SSH to the world; RPC and gRPC, when they are bound there, to the allow list."""
    first, last = map(int, public_ports(host).split(":"))
    open_to_some = {one["port"] for one in interfaces(host) if one["exposure"] == "allow-list"}
    intended = {22, *range(first, last + 1), *open_to_some}
    listed = [line.split() for line in host.check_output("ss -Hlntu").splitlines()]
    # networkd renews leases from these; only the server's answers are let in.
    leases = [("udp", "68"), ("udp", "546")]
    sockets = [line[4] for line in listed if (line[0], line[4].rsplit(":", 1)[1]) not in leases]
    others = [address for address in sockets if not address.startswith(("127.", "[::1]"))]
    assert [address for address in others if int(address.rsplit(":", 1)[1]) not in intended] == []


@pytest.mark.booted
def test_ufw_says_active(host: Host) -> None:
    assert "Status: active" in host.check_output("sudo -n /usr/sbin/ufw status verbose")


@pytest.mark.booted
@pytest.mark.parametrize("unit", ["ufw", "qtrade-firewall"])
def test_unit_is_active(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
