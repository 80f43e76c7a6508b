"""Everything that can drift on a running host, in one JSON object: what the image declares, and what is. The operator's side compares."""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

from . import boot, generation, packages, people, ruleset, runtime, unit_states, upper, verity
from .errors import AgentError
from .host import RUN, Host
from .imagelist import parse_list
from .lower import Lower

# These run programs and wait for them.
_SLOW = ("firewall", "boot", "units")


def main() -> int:
    """Print the observation, and change nothing. Its own entry: the rest of the agent takes as long to load as all of this to run."""
    try:
        sys.stdout.write(json.dumps(observe(Host()), sort_keys=True) + "\n")
    except AgentError as error:
        sys.stderr.write(f"agent: {error}\n")
        return 1
    return 0


def observe(host: Host) -> Dict[str, Any]:
    """Return the observation (docs/architecture.md, "Drift"). A part that cannot be read is null, and `errors` says why."""
    facts = host.boot_facts()
    lower = Lower.mounted(host.run / "layers")
    passwd = (host.etc / "passwd").read_text(errors="replace")
    parts: Dict[str, Callable[[], Any]] = {
        "image": lambda: _read_image(host, facts),
        "files": lambda: upper.read_changes(host.run / "rw/upper", lower),
        "packages": lambda: packages.read_changes(host.root, lower),
        "config": lambda: generation.read_generation(host.state),
        "units": lambda: unit_states.read_units(host.run, lower),
        "ports": lambda: runtime.read_ports(host.proc, lower),
        "firewall": lambda: ruleset.read_rules(lower, host.config / "current"),
        "sysctls": lambda: runtime.read_sysctls(host.proc, lower),
        "mounts": lambda: {
            "found": runtime.read_mounts(host.proc, host.dev, host.sys),
            "swaps": runtime.read_swaps(host.proc),
        },
        "accounts": lambda: people.read_accounts(host.etc, lower),
        "sudo": lambda: people.read_sudo(host.etc, lower),
        "ssh": lambda: people.read_ssh(host.root, host.state, passwd),
        "spools": lambda: people.read_spools(host.root, passwd),
        "command_line": lambda: runtime.read_command_line(host.proc, host.system, facts["image"]),
        "boot": lambda: _read_boot(host),
        "time_zone": lambda: runtime.read_time_zone(host.etc, lower),
    }
    observation: Dict[str, Any] = {
        "schema_version": 1, "host": host.name, "boot_id": host.boot_id, "at": round(time.time(), 3),
        "uptime_s": float((host.proc / "uptime").read_text().split()[0]), "errors": {},
    }  # fmt: skip
    _read_all(parts, observation)
    return observation


def _read_all(parts: Dict[str, Callable[[], Any]], observation: Dict[str, Any]) -> None:
    """Read the parts; those that wait for programs do so beside the others."""

    def read(name: str) -> None:
        try:
            observation[name] = parts[name]()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must hide nothing of the rest
            observation[name] = None
            observation["errors"][name] = str(error) if isinstance(error, AgentError) else repr(error)

    beside = [threading.Thread(target=read, args=(name,)) for name in _SLOW]
    for thread in beside:
        thread.start()
    for name in parts:
        if name not in _SLOW:
            read(name)
    for thread in beside:
        thread.join()


def _read_image(host: Host, facts: Dict[str, str]) -> Dict[str, Any]:
    """Return what the initramfs said of the boot, and which blobs are the root: their digests, and fs-verity's where it is on."""
    listing = host.system / "images" / facts["image"] / "list"
    return {
        "id": facts["image"],
        "version": str(json.loads((listing.parent / "image.json").read_text()).get("version", "")),
        "verified": facts["verified"],
        "state": facts["state"],
        "config": facts.get("config", ""),
        "kernel_release": (host.proc / "sys/kernel/osrelease").read_text().strip(),
        "layers": [_read_layer(host, blob.sha256) for blob in parse_list(listing.read_text()).layers],
        "mounted": _mounted_layers(host),
    }


def _read_boot(host: Host) -> Dict[str, Any]:
    with host.esp_shown() as esp:
        state = boot.read_state(esp)
    return {"default": state.default, "previous": state.previous, "once": state.once, "failed_boots": state.tries}


def _read_layer(host: Host, digest: str) -> Dict[str, Any]:
    path = host.system / "layers" / f"{digest}.erofs"
    return {"digest": digest, "verity": (verity.measure(path) or "") if path.is_file() else "missing"}


def _mounted_layers(host: Host) -> List[str]:
    """Return the digest of the blob that each folder of layers shows, the lowest first; what is no blob of ours shows as its source."""
    found = []
    for mount in runtime.read_mounts(host.proc, host.dev, host.sys):
        where = Path(mount["where"])
        if where.parent != RUN / "layers":
            continue
        what = Path(mount["what"])
        backing = host.sys / "block" / what.name / "loop/backing_file"
        source = Path(backing.read_text().strip()) if backing.is_file() else what
        found.append((where.name, source.stem if source.suffix == ".erofs" else str(source)))
    return [name for _, name in sorted(found)]


if __name__ == "__main__":
    sys.exit(main())
