"""Load the host's allow list into its two firewall chains.

The list is checked as a whole and each family is replaced in one step. A list that is broken changes nothing: the last
good one is loaded in its place and the unit fails, so that whoever pushed it sees it. The chains only accept: no list
can lock SSH out.

    in tcp 8899 192.0.2.0/24
    out 2001:db8::/32
"""

import argparse
import ipaddress
import subprocess
import sys
from pathlib import Path

ALLOW_LIST = Path("/run/qtrade/state/config/current/ufw/allow.rules")
LAST_GOOD = Path("/var/lib/qtrade-firewall/allow.rules")
PORTS = {22, 8899, 8900, 10000}
RESTORE = {4: "/usr/sbin/iptables-restore", 6: "/usr/sbin/ip6tables-restore"}


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return the network; all of the internet is not a network to allow."""
    network = ipaddress.ip_network(text)
    if network.prefixlen == 0:
        raise ValueError(f"{text} is everybody")
    return network


def render_rule(words: list[str]) -> tuple[int, str]:
    """Return (IP version, iptables rule) of one line."""
    if words[0] == "in" and len(words) == 4 and words[1] == "tcp":
        if int(words[2]) not in PORTS:
            raise ValueError(f"port {words[2]} is not one of {sorted(PORTS)}")
        network = parse_network(words[3])
        return network.version, f"-A qtrade-allow-in -s {network} -p tcp --dport {words[2]} -j ACCEPT"
    if words[0] == "out" and len(words) == 2:
        network = parse_network(words[1])
        return network.version, f"-A qtrade-allow-out -d {network} -j ACCEPT"
    raise ValueError("neither 'in tcp PORT NETWORK' nor 'out NETWORK'")


def render_rules(text: str) -> dict[int, str]:
    """Return the input of iptables-restore by IP version; ValueError names the line that is wrong."""
    rules: dict[int, list[str]] = {4: [], 6: []}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            version, rule = render_rule(words)
        except ValueError as error:
            raise ValueError(f"line {number}: {line.strip()!r}: {error}") from error
        rules[version].append(rule)
    head = ["*filter", ":qtrade-allow-in - [0:0]", ":qtrade-allow-out - [0:0]"]
    return {version: "\n".join([*head, *lines, "COMMIT", ""]) for version, lines in rules.items()}


def load(text: str) -> None:
    """Replace the chains of both families: both are tested before either is changed."""
    rules = render_rules(text)
    for arguments in (["--noflush", "--test"], ["--noflush"]):
        for version, content in rules.items():
            subprocess.run([RESTORE[version], "--wait", "10", *arguments], input=content, text=True, check=True)


def keep(text: str) -> None:
    """Remember the list as good."""
    new = LAST_GOOD.with_suffix(".new")
    new.write_text(text)
    new.replace(LAST_GOOD)


def main() -> None:
    """Check a file (`--check`), or load the host's list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, metavar="FILE", help="print what would be loaded, and load nothing")
    arguments = parser.parse_args()
    if arguments.check:
        try:
            sys.stdout.write("".join(render_rules(arguments.check.read_text()).values()))
        except ValueError as error:
            sys.exit(f"{arguments.check}: {error}")
        return
    last_good = LAST_GOOD.read_text() if LAST_GOOD.exists() else ""
    try:
        wanted = ALLOW_LIST.read_text() if ALLOW_LIST.exists() else last_good
        load(wanted)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        load(last_good)
        sys.exit(f"{ALLOW_LIST}: {error}; the last good list stays")
    keep(wanted)


if __name__ == "__main__":
    main()
