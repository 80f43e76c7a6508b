"""Load the host's allow list into its two firewall chains.

The list is checked as a whole and each family is replaced in one step. A list that is broken changes nothing: the last
good one is loaded in its place and the unit fails, so that whoever pushed it sees it. The chains only accept: no list
can lock SSH out.

    in json-rpc 192.0.2.0/24
    out 2001:db8::/32
"""

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

ALLOW_LIST = Path("/run/qtrade/state/config/current/ufw/allow.rules")
STATE = Path("/var/lib/qtrade-firewall")
# Each role's own; SSH is no role's, and rate limited by the rules that this list stands before.
INTERFACES = Path("/usr/share/qtrade/interfaces.d")
SSH = {"ssh": 22}
# A wider network is a slip of the pen: no provider has one.
MIN_PREFIX = {4: 8, 6: 16}
RESTORE = {4: "/usr/sbin/iptables-restore", 6: "/usr/sbin/ip6tables-restore"}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(text: str) -> Network:
    """Return the network; half of the internet is not a network to allow."""
    network = ipaddress.ip_network(text)
    if network.prefixlen < MIN_PREFIX[network.version]:
        raise ValueError(f"{text} is wider than /{MIN_PREFIX[network.version]}")
    return network


def read_ports(folder: Path) -> dict[str, int]:
    """Return the TCP ports that may be allowed, by interface: SSH, and those that their roles expose to allow lists."""
    declared = [one for path in sorted(folder.glob("*.json")) for one in json.loads(path.read_text())["interfaces"]]
    return SSH | {one["name"]: one["port"] for one in declared if one["exposure"] == "allow-list" and "port" in one}


def render_rule(words: list[str], ports: dict[str, int]) -> tuple[int, str]:
    """Return (IP version, iptables rule) of one line."""
    if words[0] == "in" and len(words) == 3:
        if words[1] not in ports:
            raise ValueError(f"{words[1]} is no interface for allow lists; this image has {', '.join(sorted(ports))}")
        network = parse_network(words[2])
        return network.version, f"-A qtrade-allow-in -s {network} -p tcp --dport {ports[words[1]]} -j ACCEPT"
    if words[0] == "out" and len(words) == 2:
        network = parse_network(words[1])
        return network.version, f"-A qtrade-allow-out -d {network} -j ACCEPT"
    raise ValueError("neither 'in INTERFACE NETWORK' nor 'out NETWORK'")


def render_rules(text: str) -> dict[int, str]:
    """Return the input of iptables-restore by IP version; ValueError names the line that is wrong."""
    ports = read_ports(INTERFACES)
    rules: dict[int, list[str]] = {4: [], 6: []}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            version, rule = render_rule(words, ports)
        except ValueError as error:
            raise ValueError(f"line {number}: {line.strip()!r}: {error}") from error
        rules[version].append(rule)
    head = ["*filter", ":qtrade-allow-in - [0:0]", ":qtrade-allow-out - [0:0]"]
    return {version: "\n".join([*head, *lines, "COMMIT", ""]) for version, lines in rules.items()}


def load(rules: dict[int, str]) -> None:
    """Replace the chains of both families: both are tested before either is changed."""
    for arguments in (["--noflush", "--test"], ["--noflush"]):
        for version, content in rules.items():
            subprocess.run([RESTORE[version], "--wait", "10", *arguments], input=content, text=True, check=True)


def keep(text: str, rules: dict[int, str]) -> None:
    """Remember the list as good, with its rules and all that made them: load.sh loads them again without Python.

    `made-by` is the program and the image's interfaces, in the order in which a shell finds them.
    """
    made_by = STATE / "made-by"
    made_by.unlink(missing_ok=True)
    for version, content in rules.items():
        write(STATE / f"v{version}.rules", content)
    write(STATE / "allow.rules", text)
    sources = (Path(__file__), *sorted(INTERFACES.glob("*.json")))
    write(made_by, "".join(path.read_text() for path in sources))


def write(path: Path, text: str) -> None:
    """Write a file so that a power cut leaves the old or the new one."""
    new = path.with_suffix(".new")
    with new.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def load_list() -> None:
    """Load the host's list, or when it is broken the last good one. Raises `SystemExit` with what is wrong."""
    last_good = STATE / "allow.rules"
    fallback = last_good.read_text() if last_good.exists() else ""
    try:
        wanted = ALLOW_LIST.read_text() if ALLOW_LIST.exists() else fallback
        rules = render_rules(wanted)
        load(rules)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"{ALLOW_LIST}: {error}; {fall_back(fallback)}")
    keep(wanted, rules)


def fall_back(text: str) -> str:
    """Load the last good list, and say whether it could be."""
    try:
        load(render_rules(text))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        return f"the last good list is not taken either ({error}), the firewall stays as it is"
    return "the last good list stays"


def main() -> None:
    """Check a file (`--check`), or load the host's list."""
    if not sys.argv[1:]:
        load_list()
        return
    import argparse  # noqa: PLC0415 - a push waits for every module

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", type=Path, metavar="FILE", required=True, help="print what would be loaded, and load nothing"
    )
    arguments = parser.parse_args()
    try:
        sys.stdout.write("".join(render_rules(arguments.check.read_text()).values()))
    except ValueError as error:
        sys.exit(f"{arguments.check}: {error}")


if __name__ == "__main__":
    main()
