"""What machine this is, where its validator listens, and whether it votes: asked before anything is measured."""

from __future__ import annotations

import contextlib
import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

CONFIG = Path("/run/qtrade/state/config/current/agave/ready.json")
SHARE = Path("/usr/share/qtrade")
_ANSWER_BYTES = 64 << 20
_ANSWER_S = 10.0


def read_machine(root: Path = Path("/")) -> dict[str, Any]:
    """Return processor, threads, memory in KiB and the speed of the fastest link that is up in Mbit/s, 0 where none tells one."""
    cpu = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    models = [line.partition(":")[2].strip() for line in cpu if line.startswith("model name")]
    memory = [line for line in (root / "proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:")]
    speeds = [0]
    for path in sorted((root / "sys/class/net").glob("*/speed")):
        with contextlib.suppress(OSError, ValueError):  # a link that is down has none
            speeds.append(int(path.read_text()))
    return {
        "cpu": models[0] if models else "unknown processor",
        "threads": len(models) or 1,
        "memory_kib": int(memory[0].split()[1]),
        "link_mbit": max(speeds),
    }


def read_rpc(share: Path = SHARE, config: Path = CONFIG) -> dict[str, Any] | None:
    """Return where the validator's JSON-RPC listens (`port`, `bind`), None on a host without one."""
    try:
        interfaces = json.loads((share / "interfaces.d/agave.json").read_text())["interfaces"]
        port = next(one["port"] for one in interfaces if one["name"] == "json-rpc")
    except (OSError, ValueError, KeyError, StopIteration):
        return None
    bind = "127.0.0.1"
    with contextlib.suppress(OSError, ValueError):
        bind = str(json.loads(config.read_text()).get("rpc_bind", bind))
    return {"port": int(port), "bind": bind}


def find_stake(rpc: dict[str, Any]) -> dict[str, Any]:
    """Ask the validator for its identity and for its cluster's vote accounts; `stake` is None where it does not tell, `problem` why."""
    try:
        identity = str(_ask(rpc, "getIdentity")["identity"])
        accounts = _ask(rpc, "getVoteAccounts")
        voting = [*accounts["current"], *accounts["delinquent"]]
        stake = sum(int(one["activatedStake"]) for one in voting if one["nodePubkey"] == identity)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return {"stake": None, "problem": f"{type(error).__name__}: {error}"}
    return {"stake": stake, "identity": identity, "problem": ""}


def _ask(rpc: dict[str, Any], method: str) -> Any:
    host = rpc["bind"] if rpc["bind"] != "0.0.0.0" else "127.0.0.1"  # noqa: S104 - asked, not bound
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()
    request = urllib.request.Request(f"http://{host}:{rpc['port']}", body, {"Content-Type": "application/json"})
    # No proxy: it is this very host that is asked.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_ANSWER_S) as answer:
        found = json.loads(answer.read(_ANSWER_BYTES))
    if "result" not in found:
        raise ValueError(f"{method} gave no result: {str(found.get('error'))[:100]}")
    return found["result"]


def main(asked: dict[str, Any]) -> None:
    """Print what was seen."""
    del asked
    rpc = read_rpc()
    seen = {"machine": read_machine(), "rpc": rpc, "votes": find_stake(rpc) if rpc else None}
    sys.stdout.write(json.dumps({"result": seen}) + "\n")
