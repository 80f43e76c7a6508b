"""What ufw_solana promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.backend.base import CommandResult
    from testinfra.host import Host

CHECK = "python3 -I -B /usr/lib/qtrade/firewall/allow_list.py --check"
FAMILIES = [("/usr/sbin/iptables-save", "ufw-user"), ("/usr/sbin/ip6tables-save", "ufw6-user")]


def check_list(host: Host, text: str) -> CommandResult:
    """Return the run of the allow list's checker over a text."""
    return host.run(f"f=/tmp/spec-allow.rules; printf '{text}' > $f; {CHECK} $f; code=$?; rm $f; exit $code")


@pytest.mark.layer
@pytest.mark.parametrize("name", ["user.rules", "user6.rules"])
def test_rules_are_baked(host: Host, name: str) -> None:
    rules = host.file(f"/etc/ufw/{name}")
    assert (rules.mode, rules.user) == (0o640, "root")
    for line in ("limit tcp 22", "allow tcp 8000:8030", "allow udp 8000:8030"):
        assert f"### tuple ### {line}" in rules.content_string
    assert "8899" not in rules.content_string


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


@pytest.mark.layer
@pytest.mark.booted
def test_range_is_wide_enough_for_the_validator(host: Host) -> None:
    script = host.file("/usr/lib/qtrade/agave/validator.sh")
    if not script.exists:
        pytest.skip("no validator in these layers")
    first, last = script.content_string.split("--dynamic-port-range ")[1].split()[0].split("-")
    assert int(last) - int(first) >= 26
    rules = host.run("cat /etc/ufw/user.rules")
    assert rules.failed or f"allow tcp {first}:{last} " in rules.stdout


@pytest.mark.layer
def test_allow_list_is_rendered_by_family(host: Host) -> None:
    done = check_list(host, "in tcp 8899 192.0.2.0/24\\nin tcp 10000 2001:db8::/32\\nout 10.0.0.0/24\\n")
    assert done.succeeded
    assert "-A qtrade-allow-in -s 192.0.2.0/24 -p tcp --dport 8899 -j ACCEPT" in done.stdout
    assert "-A qtrade-allow-in -s 2001:db8::/32 -p tcp --dport 10000 -j ACCEPT" in done.stdout
    assert "-A qtrade-allow-out -d 10.0.0.0/24 -j ACCEPT" in done.stdout


@pytest.mark.layer
@pytest.mark.parametrize(
    "line",
    ["in tcp 5432 192.0.2.0/24", "in tcp 8899 0.0.0.0/0", "in tcp 8899 192.0.2.1/24", "in udp 22 ::1", "-F INPUT"],
)
def test_broken_allow_list_is_refused(host: Host, line: str) -> None:
    done = check_list(host, f"in tcp 22 192.0.2.0/24\\n{line}\\n")
    assert done.failed
    assert "line 2" in done.stderr


@pytest.mark.booted
@pytest.mark.parametrize(("save", "chain"), FAMILIES)
def test_kernel_has_the_rules(host: Host, save: str, chain: str) -> None:
    rules = host.check_output(f"sudo -n {save}")
    assert ":INPUT DROP" in rules
    assert ":FORWARD DROP" in rules
    assert f"-A {chain}-input -p udp -m multiport --dports 8000:8030 -j ACCEPT" in rules
    assert f"-A {chain}-input -j qtrade-allow-in" in rules


@pytest.mark.booted
@pytest.mark.parametrize(
    "network", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "198.18.0.0/15"]
)
def test_private_networks_are_not_reached(host: Host, network: str) -> None:
    assert f"-A ufw-user-output -d {network} -j REJECT" in host.check_output("sudo -n /usr/sbin/iptables-save")


@pytest.mark.booted
def test_only_the_intended_ports_are_open_to_others(host: Host) -> None:
    """Gossip and SSH to the world; RPC and gRPC, when they are bound there, to the allow list."""
    intended = {22, *range(8000, 8031), 8899, 8900, 10000}
    sockets = [line.split()[4] for line in host.check_output("ss -Hlntu").splitlines()]
    others = [address for address in sockets if not address.startswith(("127.", "[::1]"))]
    assert [address for address in others if int(address.rsplit(":", 1)[1]) not in intended] == []


@pytest.mark.booted
def test_ufw_says_active(host: Host) -> None:
    assert "Status: active" in host.check_output("sudo -n /usr/sbin/ufw status verbose")


@pytest.mark.booted
@pytest.mark.parametrize("unit", ["ufw", "qtrade-firewall"])
def test_unit_is_active(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
