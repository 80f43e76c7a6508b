"""What a host tells while a version soaks, in one JSON object. The controller sends this file over SSH to the host's own Python.

So hosts on any version answer alike, with the rights of their operator; it changes nothing. Python 3.9, its standard library and no more.
A part that cannot be read is null, and `errors` says why.
"""

import ctypes
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable  # noqa: TC003 - no such block on a host
from pathlib import Path
from typing import Any

ROOT = Path("/")
PROGRAM_S = 20.0
# Few enough to be no load of its own, and all of them within a second or two.
RPC_CALLS = 100
RPC_S = 2.0
RPC_ANSWER_S = 5.0
ANSWER_BYTES = 1 << 16
FAULTS = re.compile(
    r"mce: .*\[Hardware Error\]|\[Hardware Error\]: Machine check|mce: \[Firmware Bug\]"
    r"|nvme nvme\d+: (?:I/O .*(?:timeout|QID)|controller is down|Abort status|Removing after probe failure|Device not ready)"
    r"|nvme\d+n\d+: .*(?:I/O Error|critical medium error)|blk_update_request: critical .* dev nvme"
    r"|Out of memory: Killed process|Memory cgroup out of memory: Killed process"
)
LAYERS = "/run/qtrade/layers"
# adjtimex(2): struct timex is `modes`, padding, and then longs: offset, freq, maxerror, esterror (microseconds), status in the low half.
TIMEX_LONGS = 32
STA_UNSYNC = 0x40
POSTGRES = "select coalesce(sum(tup_inserted + tup_updated + tup_deleted), 0) from pg_stat_database"


def main() -> int:
    """Print what was seen."""
    sys.stdout.write(json.dumps(observe(), sort_keys=True) + "\n")
    return 0


def observe() -> dict[str, Any]:
    """Read all parts side by side, as most of them wait for programs."""
    parts: dict[str, Callable[[], Any]] = {
        "status": read_status, "layers": read_layers, "units": read_units, "restarts": read_restarts, "clock": read_clock,
        "link_mbit": read_link, "drops": read_drops, "mounts": read_mounts, "kernel": read_kernel, "cpu_mhz": read_frequency,
        "ready": read_ready, "rpc_ms": read_latencies, "geyser": read_stream, "postgres_rows": read_rows, "telemetry": read_telemetry,
    }  # fmt: skip
    found: dict[str, Any] = dict.fromkeys(parts)
    errors: dict[str, str] = {}

    def read(name: str) -> None:
        try:
            found[name] = parts[name]()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must hide nothing of the rest
            errors[name] = str(error) or repr(error)

    began = time.time()
    threads = [threading.Thread(target=read, args=(name,)) for name in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"schema_version": 1, "began": began, "ended": time.time(), "parts": found, "errors": errors}


def run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
    """Return what a program prints. Raises `OSError` or `RuntimeError`, also for any other exit code."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, timeout=PROGRAM_S, stdin=subprocess.DEVNULL
    )
    if done.returncode not in codes:
        said = done.stderr.decode(errors="replace").strip()[-200:]
        raise RuntimeError(f"{command[0]} ended with code {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def read_status() -> dict[str, str]:
    """Return which host this is, and what it has booted, as its initramfs noted it: the agent's status would mount the ESP each time."""
    lines = (ROOT / "run/qtrade/boot").read_text().splitlines()
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    name = (ROOT / "etc/hostname").read_text().strip()
    return {"host": name, "image": facts["image"], "state": facts["state"]}


def read_layers() -> list[str]:
    """Return the digest of the blob that each layer under the root shows, the lowest first; another source shows as itself."""
    found = []
    for line in (ROOT / "proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        where, source = Path(fields[4]), fields[fields.index("-") + 2]
        if str(where.parent) != LAYERS:
            continue
        backing = ROOT / "sys/block" / Path(source).name / "loop/backing_file"
        path = Path(backing.read_text().strip()) if backing.is_file() else Path(source)
        found.append((where.name, path.stem if path.suffix == ".erofs" else str(path)))
    return [name for _, name in sorted(found)]


def read_units() -> list[str]:
    """Return the units that have failed."""
    listed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend")
    return [line.split()[0] for line in listed.splitlines() if line.split()]


def read_restarts() -> int:
    """Return how often systemd has restarted services by itself."""
    shown = run("systemctl", "show", "--property=NRestarts", "*.service")
    return sum(int(count) for count in re.findall(r"(?m)^NRestarts=(\d+)$", shown))


def read_clock() -> dict[str, Any]:
    """Return whether a time source vouches for the clock, and its error as the kernel was told by the time daemon, in seconds.

    The daemon itself (role bare_metal, `cmdport 0`) answers root alone.
    """
    timex = (ctypes.c_long * TIMEX_LONGS)()
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        raise RuntimeError(f"adjtimex: error {ctypes.get_errno()}")
    return {"synchronised": not timex[5] & STA_UNSYNC, "error_s": timex[4] / 1e6}


def read_link() -> int:
    """Return the speed of the fastest link that is up, -1 where none tells."""
    return max([_number(path) for path in ROOT.glob("sys/class/net/*/speed")], default=-1)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return -1


def read_drops() -> int:
    """Return the packets that real interfaces have dropped."""
    names = ("rx_dropped", "tx_dropped", "rx_missed_errors", "rx_fifo_errors")
    real = [folder.parent for folder in ROOT.glob("sys/class/net/*/device")]
    if not real:
        raise RuntimeError("no network interface with a device behind it")
    return sum(max(0, _number(card / "statistics" / name)) for card in real for name in names)


def read_mounts() -> list[str]:
    """Return where something is mounted."""
    lines = (ROOT / "proc/self/mounts").read_text().splitlines()
    return sorted({line.split(" ")[1] for line in lines})


def read_kernel() -> dict[str, Any]:
    """Return how many lines of the kernel's log of this boot tell of faults, and the last of them."""
    log = run("journalctl", "--dmesg", "--boot", "--output=cat", "--no-pager", "--quiet")
    if not log.strip():
        raise RuntimeError("the kernel's log cannot be read")
    lines = [line for line in log.splitlines() if FAULTS.search(line)]
    return {"faults": len(lines), "last": lines[-1][:160] if lines else ""}


def read_frequency() -> float:
    """Return the median of the threads' frequencies, in MHz."""
    text = (ROOT / "proc/cpuinfo").read_text()
    return quantile([float(value) for value in re.findall(r"(?m)^cpu MHz\s*: ([0-9.]+)$", text)], 0.5)


def read_ready() -> dict[str, Any]:
    """Return what the validator's own program says; "not ready" is an answer too."""
    verdict = json.loads(run("qtrade-agave-ready", "--wait", "0", codes=(0, 1)))
    return {name: verdict[name] for name in ("health", "slot", "lag", "reasons")}


def read_latencies() -> dict[str, float]:
    """Return the median and the 99th percentile of JSON-RPC calls, in milliseconds, over one connection of this host to itself."""
    ports = {one["name"]: one for one in _read_json("usr/share/qtrade/interfaces.d/agave.json")["interfaces"]}
    config = _read_json("run/qtrade/state/config/current/agave/ready.json", {})
    bind = str(config.get("rpc_bind", "127.0.0.1"))
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - asked, not bound
    link = http.client.HTTPConnection(host, int(ports["json-rpc"]["port"]), timeout=RPC_ANSWER_S)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "getSlot"})
    took: list[float] = []
    deadline = time.monotonic() + RPC_S
    try:
        while len(took) < RPC_CALLS and time.monotonic() < deadline:
            start = time.monotonic()
            link.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = json.loads(link.getresponse().read(ANSWER_BYTES))
            if "result" not in answer:
                raise RuntimeError(f"getSlot: {str(answer.get('error'))[:100]}")
            took.append((time.monotonic() - start) * 1000)
    finally:
        link.close()
    return {"p50": round(quantile(took, 0.5), 3), "p99": round(quantile(took, 0.99), 3), "calls": len(took)}


def read_stream() -> dict[str, Any]:
    """Return the newest slot that Subscribe brought, by the stream's own client, and what it said where there is none."""
    told = json.loads(run("sudo", "-n", "-u", "sol", "/usr/lib/qtrade/geyser/stream.py", codes=(0, 1, 2)))
    return {"slot": max(told.get("slots") or [0]), "said": str(told.get("message") or "")[:160]}


def read_rows() -> int:
    """Return the rows that were written to PostgreSQL, by its statistics."""
    ports = {one["name"]: one for one in _read_json("usr/share/qtrade/interfaces.d/postgres.json")["interfaces"]}
    port = str(next(iter(ports.values()))["port"])
    return int(run("psql", "-XAtq", "-w", "-p", port, "-U", "qtrade_readonly", "-d", "postgres", "-c", POSTGRES))


def read_telemetry() -> str:
    """Return the lines of the Collector's own metrics that count what it has sent."""
    arguments = _read_json("usr/share/qtrade/arguments.d/datadog.json")["arguments"]
    link = http.client.HTTPConnection("127.0.0.1", int(arguments["datadog_collector_telemetry_port"]), timeout=10)
    try:
        link.request("GET", "/metrics")
        text = link.getresponse().read().decode(errors="replace")
    finally:
        link.close()
    return "\n".join(line for line in text.splitlines() if line.startswith("otelcol_") and "metric_points" in line)


def quantile(values: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of all are not above. Raises `RuntimeError` where there is none."""
    if not values:
        raise RuntimeError("no value was told")
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]


def _read_json(path: str, otherwise: Any = None) -> Any:
    try:
        return json.loads((ROOT / path).read_text())
    except FileNotFoundError:
        if otherwise is None:
            raise
        return otherwise


if __name__ == "__main__":
    sys.exit(main())
