"""Filter `agave_start_plan`: the flags and interfaces of one Agave version and profile, from the table in vars/main.yml.

Pure; refuses, with the version and the cure, what this version does not know.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+(?:-[0-9A-Za-z.-]+)?")

# The core that proof of history is pinned to, and upstream's default (DEFAULT_PINNED_CPU_CORE of poh_service.rs).
_POH = ("--poh-pinned-cpu-core", "--experimental-poh-pinned-cpu-core")
_POH_DEFAULT = (_POH[0], "0")


class FilterModule:
    """The filters of this role."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"agave_start_plan": plan_start}


def plan_start(
    table: Mapping[str, Any], *, version: str, profile: str, indexes: Sequence[str] = (), extra: Sequence[str] = ()
) -> dict[str, Any]:
    """Return `{minor, data_of, poh_core, profile, flags, host, xdp, used, interfaces}`; `flags` are the words of the baked command line.

    Raises `AnsibleFilterError` for an unknown minor, ports that cannot work, and a flag that this version does not take.
    """
    minor = find_minor(table["minors"], version)
    facts = table["minors"][minor]
    flags: list[str] = []
    for entry in table["start"]:
        if profile in entry.get("profiles", (profile,)):
            flags += [entry["flag"], *([str(entry["value"])] if "value" in entry else [])]
    for index in indexes:
        flags += ["--account-index", index]
    check_ports(flags, facts["ports"], version, find_taken(table["taken"]))
    host = {
        name: {"flag": rule["flag"], "factor": 1}
        for name, rule in table["host"].items()
        if profile in rule.get("profiles", (profile,))
    }
    host["limit_ledger_size"] = dict(facts["ledger_limit"])
    xdp = dict(table["xdp"][facts["xdp"]])
    given = [rule["flag"] for rule in host.values()] + [flag for flag in xdp.values() if isinstance(flag, str)]
    own = [word for word in flags if word.startswith("--")] + given + list(table["decided"])
    for flag in own:
        check_flag(flag, version, minor, table["changes"])
    more = split_extra(extra, {*own, *table["reserved"]}, version, minor, table["changes"])
    used = sorted({*own, *(word.partition("=")[0] for word in more if word.startswith("--"))})
    return {
        "minor": minor,
        "data_of": find_neighbours(table["minors"], minor),
        "poh_core": int(_value([*more, *_POH_DEFAULT], next(word for word in [*more, *_POH_DEFAULT] if word in _POH))),
        "profile": profile,
        "flags": flags + more,
        "host": host,
        "xdp": xdp,
        "used": used,
        "interfaces": [render_interface(entry) for entry in table["interfaces"]],
    }


def find_minor(minors: Mapping[str, Any], version: str) -> str:
    """Return the minor of a version, which has to be in the table."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise AnsibleFilterError(f"agave_version is {version!r}: it has to be a whole version such as 4.2.1")
    minor = f"{match[1]}.{match[2]}"
    if minor not in minors:
        raise AnsibleFilterError(
            f"Agave {version}: start flags are known for {', '.join(minors)}, not for {minor}. Read the {minor}.0 section of Agave's "
            "CHANGELOG, then add the minor to agave_minors and its added, removed and deprecated flags to agave_flag_changes in "
            "ansible/roles/agave/vars/main.yml; or bake a version of a known minor"
        )
    return minor


def find_neighbours(minors: Mapping[str, Any], minor: str) -> list[str]:
    """Return the minors whose ledger and snapshots a minor takes: its own and those beside it (Agave's CHANGELOG, 2.2).

    Where the table ends, the next number of the same major is taken for the neighbour.
    """
    order = sorted(minors, key=_number)
    at = order.index(minor)
    major, number = _number(minor)
    before = order[at - 1] if at else f"{major}.{max(number - 1, 0)}"
    after = order[at + 1] if at + 1 < len(order) else f"{major}.{number + 1}"
    return list(dict.fromkeys((before, minor, after)))


def check_flag(flag: str, version: str, minor: str, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a flag that this version does not take, or takes for the last time although it knows the replacement."""
    change = changes.get(flag, {})
    cure = f"use {change['use']} instead" if "use" in change else "leave it out"
    if "added" in change and _number(minor) < _number(change["added"]):
        raise AnsibleFilterError(f"Agave {version} does not know {flag}: it came with {change['added']}. Leave it out")
    if "removed" in change and _number(minor) >= _number(change["removed"]):
        raise AnsibleFilterError(f"Agave {version} does not start with {flag}: {change['removed']} removed it; {cure}")
    is_superseded = "use" in change or change.get("noop", False)
    if "deprecated" in change and is_superseded and _number(minor) >= _number(change["deprecated"]):
        what = "does nothing any more" if change.get("noop") else "is replaced"
        raise AnsibleFilterError(f"{flag} {what} since Agave {change['deprecated']} (this is {version}); {cure}")


def split_extra(
    extra: Sequence[str], taken: set[str], version: str, minor: str, changes: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the words of the extra flags (`--flag`, `--flag value` or `--flag=value` each)."""
    words: list[str] = []
    for entry in extra:
        parts = shlex.split(entry)
        flag = parts[0].partition("=")[0] if parts else ""
        if not re.fullmatch(r"--[a-z0-9][a-z0-9-]*", flag) or any(part.startswith("--") for part in parts[1:]):
            raise AnsibleFilterError(f"agave_extra_flags: {entry!r} is not one long flag with its values")
        if flag in taken:
            raise AnsibleFilterError(
                f"agave_extra_flags: {flag} is set by this role or kept from images; use the role's variables or the host's config"
            )
        check_flag(flag, version, minor, changes)
        # One word for the flag, one for each value, whichever way it was written.
        words += [part for word in parts for part in (word.split("=", 1) if word is parts[0] else [word])]
    return words


def find_taken(places: Mapping[str, Any]) -> dict[int, str]:
    """Return whose each port is, of other services' ports and addresses by name; a socket in the file system has none."""
    found: dict[int, str] = {}
    for name, place in places.items():
        for one in place if isinstance(place, list) else [place]:
            port = str(one).rpartition(":")[2]
            if port.isdecimal():
                found[int(port)] = name
    return found


def check_ports(flags: Sequence[str], width: int, version: str, taken: Mapping[int, str]) -> None:
    """Refuse ports with which the validator would not start, or would take another service's."""
    first, last = parse_range(_value(flags, "--dynamic-port-range"))
    gossip, rpc = int(_value(flags, "--gossip-port")), int(_value(flags, "--rpc-port"))
    # Upstream's range is half open: its end is not one of the validator's ports.
    if last - first < width:
        raise AnsibleFilterError(
            f"agave_port_range {first}-{last} is {last - first} wide, Agave {version} needs {width}; say {first}-{first + 30}"
        )
    if not first <= gossip < last:
        raise AnsibleFilterError(
            f"agave_gossip_port {gossip} is outside agave_port_range {first}-{last}, which the firewall opens"
        )
    for port, name in {**taken, rpc: "JSON-RPC", rpc + 1: "the websocket"}.items():
        if first <= port <= last:
            raise AnsibleFilterError(f"agave_port_range {first}-{last} holds {port}, the port of {name}")
    for port in (rpc, rpc + 1):
        if port in taken:
            raise AnsibleFilterError(f"agave_rpc_port {rpc}: {port} is the port of {taken[port]}")


def parse_range(text: str) -> tuple[int, int]:
    """Return first and end of a port range such as 8000-8030."""
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if match is None or not 1024 <= int(match[1]) < int(match[2]) <= 65535:
        raise AnsibleFilterError(f"agave_port_range is {text!r}: it has to be two ports above 1023, such as 8000-8030")
    return int(match[1]), int(match[2])


def render_interface(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an interface with numbers for ports; a range has `first`, and `end`, which is not one of its ports."""
    found = dict(entry)
    if "range" in found:
        first, end = parse_range(str(found.pop("range")))
        found |= {"first": first, "end": end}
    if "port" in found:
        found["port"] = int(found["port"])
    return found


def _value(flags: Sequence[str], flag: str) -> str:
    return flags[flags.index(flag) + 1]


def _number(minor: str) -> tuple[int, ...]:
    return tuple(int(part) for part in minor.split("."))
