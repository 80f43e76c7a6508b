"""How long `qtrade drift --env` takes for many hosts: `python -m tests.bench.drift [--hosts 100] [--agent-s 2]`. Root, for sshd.

The hosts are simulated: real OpenSSH servers on the loopback, which are each of them by another address, and answer after as long as
an agent takes with an observation as large as a real one. SSH, parsing, expectations and comparisons are the real ones.
"""

import argparse
import json
import stat
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from flash.drift.look import choose_hosts, look_at_all
from flash.ssh import known_hosts_path
from qtrade.settings import Settings, load_settings
from tests.fakes.drifting_host import RUNS, DriftingHost, make_host
from tests.fakes.examples import make_settings
from tests.fakes.ssh_server import SshServer, serve_ssh

_WANTED_S = 30.0
_MORE_UNITS, _MORE_RULES = 180, 250
# sshd listens on 16 sockets at the most, one of which `serve_ssh` takes.
_ADDRESSES = 15
# The server's address names the host; in SSH_CONNECTION it is the third word.
_ANSWER = """#!/bin/sh
set -- $SSH_CONNECTION
sleep {agent_s}
exec sed "s/@HOST@/sim-${{3##*.}}/" {observation}
"""


def main() -> int:
    """Measure, print the result as JSON, and return 1 when it took too long or something was not found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=100, choices=range(1, 251), metavar="N")
    parser.add_argument("--agent-s", type=float, default=2.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as work:
        result = measure(Path(work), arguments.hosts, arguments.agent_s, _patch)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0 if result["seconds"] <= _WANTED_S and result["found"] == arguments.hosts else 1


def measure(folder: Path, hosts: int, agent_s: float, patch: Callable[[str, Any], None]) -> dict[str, Any]:
    """Return the seconds for all hosts, and those of one host: the least, the median and the most. `patch` as `make_host` wants it."""
    settings = make_settings(folder)
    host = make_host(settings, folder / "host", patch)
    _enlarge(host, patch)
    host.write("etc/motd", "planted\n")
    observation = folder / "observation.json"
    observation.write_text(json.dumps({**json.loads(host.observe()), "host": "@HOST@"}))
    script = folder / "answer"
    script.write_text(_ANSWER.format(agent_s=agent_s, observation=observation))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    addresses = [f"127.0.1.{number}" for number in range(1, hosts + 1)]
    with ExitStack() as servers:
        for number, chosen in enumerate(batched(addresses, _ADDRESSES)):
            lines = (*(f"ListenAddress {address}" for address in chosen), f"ForceCommand {script}", "MaxStartups 1000")
            server = servers.enter_context(serve_ssh(load_settings(), folder / f"sshd-{number}", *lines))
            _write_hosts(settings, server, chosen)
        (settings.project / "manifests/hosts/rpc-1.yaml").unlink()
        start = time.monotonic()
        reports = look_at_all(settings, choose_hosts(settings, None, "development"))
        seconds = time.monotonic() - start
    took = sorted(report.took_s for report in reports)
    # Each is rpc-1 under another name and with the key of the server.
    wanted = {("file", "/etc/motd"), ("host_key", "ssh_host_ed25519_key"), ("config", "hostname")}
    found = sum({(one.kind, one.subject) for one in report.findings} == wanted for report in reports)
    return {
        "hosts": len(reports), "agent_s": agent_s, "observation_bytes": observation.stat().st_size, "seconds": round(seconds, 1),
        "host_least_s": took[0], "host_median_s": round(statistics.median(took), 2), "host_most_s": took[-1], "found": found,
    }  # fmt: skip


def _patch(name: str, value: Any) -> None:
    """Set an attribute by its dotted name, for as long as this process lives."""
    place, _, attribute = name.rpartition(".")
    parts = place.split(".")
    for length in range(len(parts), 0, -1):
        module = sys.modules.get(".".join(parts[:length]))
        if module is not None:
            target: Any = module
            for part in parts[length:]:
                target = getattr(target, part)
            setattr(target, attribute, value)
            return
    raise LookupError(name)


def _enlarge(host: DriftingHost, patch: Callable[[str, Any], None]) -> None:
    """Let the host have as many units and rules as a real one."""
    for number in range(_MORE_UNITS):
        name = f"more-{number}.service"
        host.units[name] = RUNS
    rules = "".join(f"-A INPUT -s 192.0.2.{number}/32 -j ACCEPT\n" for number in range(_MORE_RULES))
    saved = host.saved.replace("COMMIT\n", f"{rules}COMMIT\n")
    host.saved = saved
    patch("flash.agent.ruleset.run", lambda *_, **__: saved)


def batched(names: list[str], size: int) -> list[list[str]]:
    """Return the names in lists of `size`."""
    return [names[place : place + size] for place in range(0, len(names), size)]


def _write_hosts(settings: Settings, server: SshServer, addresses: list[str]) -> None:
    """Write a manifest for each address, named after its last number, with the server's key as the pinned one."""
    folder = settings.project / "manifests/hosts"
    fields = yaml.safe_load((folder / "rpc-1.yaml").read_text())
    key = (server.folder / "host_key.pub").read_text()
    for address in addresses:
        name = f"sim-{address.rpartition('.')[2]}"
        ssh = {"port": server.port, "user": "root", "identity_file": str(server.identity)}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**fields, "name": name, "address": address, "ssh": ssh}))
        pinned = known_hosts_path(settings, name)
        pinned.parent.mkdir(parents=True, exist_ok=True)
        pinned.write_text(f"{name} {key}")


if __name__ == "__main__":
    sys.exit(main())
