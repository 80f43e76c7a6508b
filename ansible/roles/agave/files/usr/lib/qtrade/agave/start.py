#!/usr/bin/python3 -ISB
"""Become the validator: the baked flags, and those that follow from the host's config and from the snapshots on its disks.

systemd is told that the unit has started when all is decided: who pushes a config that cannot work learns it at once.

Usage: start.py [--show] -- FLAGS. With `--show` the command line is printed as JSON and nothing is started.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

# typing takes as long to load as all the rest, and only readers of types need it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

PROGRAM = "/opt/agave/current/bin/agave-validator"
TABLE = Path("/usr/lib/qtrade/agave/start.json")
CONFIG = Path("/run/qtrade/state/config/current/agave/validator.json")
# Geyser's role may render its config elsewhere, with a secret in it; a drop-in of the unit says where.
PLUGIN_VARIABLE = "QTRADE_GEYSER_CONFIG"
PLUGIN_CONFIG = "/etc/yellowstone/config.json"
# What that drop-in wants run first; its exit code ends the start.
BEFORE_VARIABLE = "QTRADE_BEFORE_START"
# Beside the data itself: whoever empties the ledger's disk takes the note away too. `qtrade-agent status` reads it.
WRITTEN = "qtrade-written-by.json"
# For a host without a config: an unlimited ledger fills its disk.
FALLBACK = {"limit_ledger_size": 200_000_000, "snapshot_max_age_s": 1800}
# sysexits: a fault of the config, which a restart does not mend.
EX_CONFIG = 78
# Without XDP the validator needs no capability, so it is started without those that the unit holds for it.
DROP_CAPABILITIES = ["/usr/bin/setpriv", "--ambient-caps=-all", "--inh-caps=-all", "--"]
_FULL = re.compile(r"snapshot-(\d+)-[1-9A-HJ-NP-Za-km-z]+\.tar(?:\.[a-z0-9]+)?")
_INCREMENTAL = re.compile(r"incremental-snapshot-(\d+)-(\d+)-[1-9A-HJ-NP-Za-km-z]+\.tar(?:\.[a-z0-9]+)?")


class ConfigError(Exception):
    """The host's config cannot work with this image."""


def read_config(path: Path) -> dict[str, Any]:
    """Return the host's config; without one a host runs on loopback, alone. Raises `ConfigError` for one that cannot be read."""
    try:
        return {**FALLBACK, **json.loads(path.read_text())}
    except FileNotFoundError:
        return dict(FALLBACK)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; push the host's config") from error


def host_flags(rules: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Return the flags of the config's values; empty values give none."""
    words: list[str] = []
    for name, rule in rules.items():
        value = config.get(name)
        for one in value if isinstance(value, list) else [value]:
            if one:
                words += [rule["flag"], str(one * rule["factor"] if isinstance(one, int) else one)]
    return words


def trust_flags(config: dict[str, Any]) -> list[str]:
    """Return the flags that make downloads trustworthy. Raises `ConfigError` where any peer's snapshot would be taken."""
    if not config.get("entrypoints"):
        return []
    missing = [name for name in ("known_validators", "expected_genesis_hash") if not config.get(name)]
    if missing:
        raise ConfigError(
            f"agave_entrypoints is set, agave_{missing[0]} is not: genesis or snapshots of anybody would be taken; set it in the "
            "host's or the environment's manifest and push"
        )
    return ["--only-known-rpc"]


def xdp_flags(xdp: dict[str, Any], config: dict[str, Any], baked: list[str]) -> list[str]:
    """Return the flags of XDP. Raises `ConfigError` for what this version refuses."""
    if not config.get("xdp"):
        return [xdp["off"]] if "off" in xdp else []
    if xdp["needs_cores"] and not config.get("xdp_cpu_cores"):
        raise ConfigError("agave_xdp is on: this version needs agave_xdp_cpu_cores; name cores, or turn agave_xdp off")
    if "--allow-private-addr" in baked:
        raise ConfigError("agave_xdp is on: with XDP gossip reaches no private addresses, and the image allows them")
    words: list[str] = []
    for name in ("interface", "cpu_cores"):
        if config.get(f"xdp_{name}"):
            words += [xdp[name], str(config[f"xdp_{name}"])]
    return [*words, xdp["zero_copy"]] if config.get("xdp_zero_copy") else words


def read_written(ledger: Path) -> str:
    """Return the version that last ran on the ledger, "" where nothing says it: a new disk, or one from before the note."""
    try:
        found = json.loads((ledger / WRITTEN).read_text())["version"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return str(found)


def check_written(written: str, table: dict[str, Any], config: dict[str, Any]) -> bool:
    """Return whether data that does not fit is used all the same, as the config says. Raises `ConfigError` where it says nothing.

    Ledger and snapshots fit one minor up or down (Agave's CHANGELOG, 2.2).
    """
    if not written or ".".join(written.split(".")[:2]) in table["data_of"]:
        return False
    if config.get("accept_data_of") == written:
        return True
    raise ConfigError(
        f"the ledger was written by Agave {written}, and {table['version']} takes that of {', '.join(table['data_of'])} only: run an image "
        f"with one of these, or empty the disks of ledger, accounts and snapshots, or set agave_accept_data_of to {written} and push"
    )


def note_written(ledger: Path, version: str) -> None:
    """Note who writes from now on, so that a power cut leaves the old note or the new one. Raises `ConfigError`."""
    try:
        with (ledger / f".{WRITTEN}").open("w") as stream:
            stream.write(json.dumps({"schema_version": 1, "program": "agave", "version": version}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        (ledger / f".{WRITTEN}").replace(ledger / WRITTEN)
    except OSError as error:
        raise ConfigError(f"{ledger / WRITTEN} cannot be written: {error}") from error


def newest_snapshot(folder: Path) -> tuple[int, float] | None:
    """Return slot and time of the newest archive that can be loaded: a full one, or an increment on a full one that is there.

    The validator loads what it made itself from `folder`, and what it downloaded from `remote` in there.
    """
    folders = [place for place in (folder / "remote", folder) if place.is_dir()]
    names = {path.name: path for place in folders for path in place.iterdir()}
    full = {match[1]: path for name, path in names.items() if (match := _FULL.fullmatch(name))}
    found = [(int(slot), path) for slot, path in full.items()]
    found += [
        (int(match[2]), path)
        for name, path in names.items()
        if (match := _INCREMENTAL.fullmatch(name)) and match[1] in full
    ]
    if not found:
        return None
    slot, path = max(found)
    return slot, path.stat().st_mtime


def fetch_flags(config: dict[str, Any], snapshot: tuple[int, float] | None, now: float) -> tuple[list[str], str]:
    """Decide whether a snapshot may be downloaded; return the flags and the reason.

    A download leaves a hole in the ledger and costs more than replaying the slots of a short stop.
    """
    if not config.get("entrypoints"):
        return [], "no entrypoints: no peer to take a snapshot from"
    if snapshot is None:
        return [], "no snapshot here: one is downloaded"
    slot, made = snapshot
    age, limit = now - made, config["snapshot_max_age_s"]
    if 0 <= age <= limit:
        return [
            "--no-snapshot-fetch"
        ], f"the snapshot of slot {slot} is {age:.0f} s old: the slots since are replayed, none is downloaded"
    return [], f"the snapshot of slot {slot} is {age:.0f} s old, more than {limit} s: a newer one may be downloaded"


def leave_cpus(config: dict[str, Any], poh_core: int, allowed: set[int]) -> set[int]:
    """Return the CPUs that the client leaves to the validator. Raises `ConfigError` where that cannot be meant.

    Upstream counts the core of proof of history over the CPUs that it may run on (poh_service.rs), so none below that one may go.
    """
    client = {int(cpu) for cpu in config.get("client_cpus", [])}
    left = allowed - client
    if client and min(client) <= poh_core:
        raise ConfigError(
            f"qtrade_client_cpus names CPU {min(client)}, and the image pins proof of history to the core {poh_core}: name CPUs above "
            "that, and push"
        )
    if not left:
        raise ConfigError(
            "qtrade_client_cpus names every CPU of the host, and none is left to the validator: name fewer, and push"
        )
    return left


def plugin_flags(environment: dict[str, str], default: Path) -> list[str]:
    """Return the flag of the Geyser plugin; without a plugin in the image there is none."""
    path = environment.get(PLUGIN_VARIABLE) or (str(default) if default.exists() else "")
    return ["--geyser-plugin-config", path] if path else []


def plan(
    table: dict[str, Any], config: dict[str, Any], baked: list[str], snapshots: Path, now: float
) -> tuple[list[str], str]:
    """Return the validator's arguments and what was decided on snapshots."""
    fetch, reason = fetch_flags(config, newest_snapshot(snapshots), now)
    words = [
        *baked,
        *host_flags(table["host"], config),
        *trust_flags(config),
        *xdp_flags(table["xdp"], config, baked),
        *fetch,
        *plugin_flags(dict(os.environ), Path(PLUGIN_CONFIG)),
    ]
    return words, reason


def run_before(environment: dict[str, str]) -> int:
    """Run the program that has to come before each start, and return its exit code; 0 where there is none."""
    program = environment.get(BEFORE_VARIABLE)
    # spawnv, as importing subprocess takes longer than all the rest. A program that a signal ended gives a number below 0.
    return abs(os.spawnv(os.P_WAIT, program, [program])) if program else 0  # noqa: S606 - list of words, no shell


def tell_started() -> None:
    """Tell systemd that the unit has started, as sd_notify(3) does; the validator itself knows nothing of it."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address:
        import socket  # noqa: PLC0415 - slow to load, and `--show` does without

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.sendto(b"READY=1", f"\0{address[1:]}" if address.startswith("@") else address)


def become(command: list[str]) -> NoReturn:
    """Replace this process, so that signals reach the validator."""
    os.execv(command[0], command)  # noqa: S606 - list of words, no shell


def main(arguments: list[str]) -> int:
    """Plan, then become the validator."""
    is_shown = arguments[:1] == ["--show"]
    baked = arguments[arguments.index("--") + 1 :]
    ledger, snapshots = (Path(baked[baked.index(flag) + 1]) for flag in ("--ledger", "--snapshots"))
    failed = 0 if is_shown else run_before(dict(os.environ))
    if failed:
        return failed
    try:
        config, table = read_config(CONFIG), json.loads(TABLE.read_text())
        if check_written(read_written(ledger), table, config):
            # Snapshots of that version are none to start from.
            config["snapshot_max_age_s"] = 0
        words, reason = plan(table, config, baked, snapshots, time.time())
        cpus = leave_cpus(config, table["poh_core"], os.sched_getaffinity(0))
        if not is_shown:
            note_written(ledger, table["version"])
    except ConfigError as error:
        sys.stderr.write(f"agave: {error}\n")
        return EX_CONFIG
    command = [*([] if config.get("xdp") else DROP_CAPABILITIES), PROGRAM, *words]
    if is_shown:
        sys.stdout.write(json.dumps({"command": command, "snapshots": reason, "cpus": sorted(cpus)}) + "\n")
        return 0
    os.sched_setaffinity(0, cpus)
    sys.stderr.write(f"agave: {reason}\n")
    sys.stderr.flush()
    tell_started()
    become(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
