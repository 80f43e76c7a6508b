"""Measure what neither Agent nor Collector does, and send it to the Agent (DogStatsD): `host_metrics.py UNIT ...`.

Every minute: units that failed or keep restarting, the clock, the config generation, how the host booted, whether the validator keeps
up, how old the last good backup is. Every hour, since it mounts the ESP and asks the disks: the boot choice and the wear of the NVMe disks;
in between the last values are sent again. A source that cannot be read is itself a metric; it never fails the unit, for a failed unit
would make a healthy host look sick.
"""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

AGENT = ("127.0.0.1", 8125)
RUN = Path("/run/qtrade")
KEPT = Path("/run/qtrade-host-metrics/slow")
DEVICES = Path("/dev")
READY = Path("/usr/lib/qtrade/agave/ready.py")
BACKUPS = Path("/var/lib/qtrade-postgres/backups.json")
REPOSITORY = RUN / "state/config/current/postgres/pgbackrest.conf"
SLOW_S = 3600
# A datagram that the Agent takes whole, also where the loopback's MTU is an Ethernet's.
DATAGRAM_BYTES = 1400
PROGRAM_TIMEOUT_S = 20

# linux/nvme_ioctl.h: _IOWR('N', 0x41, struct nvme_admin_cmd), and the struct: opcode, flags, reserved, namespace, dwords 2 and 3, metadata,
# address, their lengths, dwords 10 to 15, timeout, result.
NVME_ADMIN_COMMAND = 0xC0484E41
ADMIN_COMMAND = "=BBHIIIQQII6III"
NVME_MS = 5000
GET_LOG_PAGE = 0x02
ALL_NAMESPACES = 0xFFFFFFFF
HEALTH_LOG = 0x02
LOG_BYTES = 512


@dataclass(frozen=True)
class Metric:
    """A gauge."""

    name: str
    value: float
    tags: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """Return it as DogStatsD reads it."""
        tags = ",".join(f"{key}:{value}" for key, value in self.tags.items())
        return f"qtrade.{self.name}:{self.value:.15g}|g" + (f"|#{tags}" if tags else "")


def run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
    """Return what a program prints. Raises `OSError` or `subprocess.SubprocessError`, also for any other exit code."""
    environment = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT_S
    )
    if done.returncode not in codes:
        raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr[-500:])
    return done.stdout


def parse_failed(listing: str) -> Iterator[Metric]:
    """Read `systemctl list-units --failed`: how many there are, and each by name."""
    names = [line.split()[0] for line in listing.splitlines() if line.split()]
    yield Metric("units.failed", len(names))
    for name in names:
        yield Metric("unit.failed", 1, {"unit": name})


def parse_units(shown: str) -> Iterator[Metric]:
    """Read `systemctl show --property=Id,ActiveState,NRestarts` of several units."""
    for block in shown.strip().split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        tags = {"unit": fields["Id"]}
        yield Metric("unit.active", int(fields["ActiveState"] == "active"), tags)
        if fields.get("NRestarts"):
            yield Metric("unit.restarts", int(fields["NRestarts"]), tags)


def parse_tracking(row: str) -> Iterator[Metric]:
    """Read `chronyc -c tracking`: the clock's offset from NTP, and whether anybody vouches for it."""
    columns = row.strip().split(",")
    yield Metric("clock.offset_s", abs(float(columns[4])))
    yield Metric("clock.synchronised", int(columns[-1] != "Not synchronised"))


def read_boot(folder: Path) -> Iterator[Metric]:
    """Read what the initramfs left, and the config generation that is current."""
    facts = dict(line.split("=", 1) for line in (folder / "boot").read_text().splitlines() if "=" in line)
    yield Metric("boot.volatile_state", int(facts.get("state") != "persistent"))
    yield Metric("boot.verity", int(facts.get("verified") == "verity"))
    current = folder / "state/config/current"
    digits = re.search(r"\d+", current.readlink().name) if current.is_symlink() else None
    yield Metric("config.generation", int(digits[0]) if digits else 0, {"image": facts["image"][:12]})


def parse_status(text: str) -> Iterator[Metric]:
    """Read `qtrade-agent status`: whether the image that runs is the one that boots by default, and boots that failed."""
    status = json.loads(text)
    if not status.get("default"):
        raise ValueError(str(status.get("boot_error") or "no default image"))
    tags = {"image": status["image"][:12], "version": str(status["version"])}
    yield Metric("boot.on_default", int(status["image"] == status["default"]), tags)
    yield Metric("boot.failed_boots", int(status["failed_boots"]), tags)
    yield Metric("boot.upper_entries", int(status["upper_entries"]), tags)


def parse_ready(text: str) -> Iterator[Metric]:
    """Read what `ready.py` of the role agave says: whether the validator keeps up, and by how many slots it lags a reference RPC."""
    verdict = json.loads(text)
    yield Metric("validator.ready", int(verdict["ready"]))
    yield Metric("validator.initialised", int(verdict["initialised"]))
    yield Metric("validator.healthy", int(verdict["health"] == "ok"))
    for name in ("slot", "reference_slot", "lag"):
        if verdict[name] is not None:
            yield Metric(f"validator.{name}", int(verdict[name]))


def read_ready(program: Path) -> Iterator[Metric]:
    """Ask the validator's role, if the image has it. "Not ready" is an answer too (exit code 1)."""
    if program.exists():
        yield from parse_ready(run("/usr/bin/python3", "-IB", str(program), codes=(0, 1)))


def read_backups(record: Path, repository: Path, now: float, up_s: float) -> Iterator[Metric]:
    """Read how long ago PostgreSQL's last good backup ended, as the repository itself said then (`pgbackrest info`, kept after each).

    A host with a repository and without a record has none since it booted, as far as it knows.
    """
    if not repository.is_file() or not repository.stat().st_size:
        return
    stanzas = json.loads(record.read_text()) if record.is_file() else []
    ends = [one["timestamp"]["stop"] for stanza in stanzas for one in stanza["backup"] if not one.get("error")]
    yield Metric("postgres.backup_age_s", now - max(ends) if ends else up_s)


def pack_health_command(address: int) -> bytearray:
    """Return a struct nvme_admin_cmd that asks for the health log of all namespaces, to be written at `address`."""
    dwords = (HEALTH_LOG | (LOG_BYTES // 4 - 1) << 16, 0, 0, 0, 0, 0)
    return bytearray(
        struct.pack(
            ADMIN_COMMAND, GET_LOG_PAGE, 0, 0, ALL_NAMESPACES, 0, 0, 0, address, 0, LOG_BYTES, *dwords, NVME_MS, 0
        )
    )


def read_health_log(device: Path) -> bytes:
    """Return the SMART / health log page of an NVMe controller. Raises `OSError`."""
    buffer = array("B", bytes(LOG_BYTES))
    command = pack_health_command(buffer.buffer_info()[0])
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = ioctl(descriptor, NVME_ADMIN_COMMAND, command)
    finally:
        os.close(descriptor)
    if status:
        raise OSError(status, "the controller refused its health log", str(device))
    return buffer.tobytes()


def parse_health_log(log: bytes, device: str) -> Iterator[Metric]:
    """Read a health log page (NVM Express base specification, "SMART / Health Information")."""
    tags = {"device": device}
    yield Metric("nvme.critical_warning", log[0], tags)
    yield Metric("nvme.spare_percent", log[3], tags)
    yield Metric("nvme.spare_threshold_percent", log[4], tags)
    yield Metric("nvme.used_percent", log[5], tags)
    yield Metric("nvme.media_errors", int.from_bytes(log[160:176], "little"), tags)


def read_nvme(devices: Path) -> Iterator[Metric]:
    """Read the wear of every NVMe controller."""
    for device in sorted(devices.glob("nvme*")):
        if re.fullmatch(r"nvme\d+", device.name):
            yield from parse_health_log(read_health_log(device), device.name)


def collect(sources: Mapping[str, Callable[[], Iterable[Metric]]]) -> list[Metric]:
    """Return the metrics of all sources; one that fails gives the metric that it failed."""
    found: list[Metric] = []
    for name, read in sources.items():
        try:
            metrics = list(read())
        except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"{name}: {error!r}\n")
            metrics = [Metric("source.failed", 1, {"source": name})]
        else:
            metrics.append(Metric("source.failed", 0, {"source": name}))
        found += metrics
    return found


def collect_slow(sources: Mapping[str, Callable[[], Iterable[Metric]]], kept: Path, now: float) -> list[str]:
    """Return the lines of the dear sources: those kept in a file while they are young, else new ones, which are kept."""
    try:
        if now - kept.stat().st_mtime < SLOW_S:
            return kept.read_text().splitlines()
    except FileNotFoundError:
        pass
    lines = [metric.line() for metric in collect(sources)]
    fresh = kept.with_suffix(".new")
    fresh.write_text("".join(f"{line}\n" for line in lines))
    fresh.replace(kept)
    return lines


def pack(lines: Iterable[str]) -> Iterator[bytes]:
    """Return as few datagrams as hold all lines."""
    held = b""
    for line in (line.encode() for line in lines):
        if held and len(held) + 1 + len(line) > DATAGRAM_BYTES:
            yield held
            held = b""
        held = held + b"\n" + line if held else line
    if held:
        yield held


def send(lines: Iterable[str], address: tuple[str, int]) -> None:
    """Send the metrics. Nobody may listen, or a firewall forbid it: that is no fault of ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for datagram in pack(lines):
            try:
                link.sendto(datagram, address)
            except OSError as error:
                sys.stderr.write(f"not sent: {error}\n")


def fast_sources(units: list[str]) -> dict[str, Callable[[], Iterable[Metric]]]:
    """Return what is read every minute, by name."""
    return {
        "failed": lambda: parse_failed(run("systemctl", "list-units", "--failed", "--plain", "--no-legend")),
        "units": lambda: parse_units(run("systemctl", "show", "--property=Id,ActiveState,NRestarts", *units)),
        "clock": lambda: parse_tracking(run("chronyc", "-c", "tracking")),
        "boot": lambda: read_boot(RUN),
        "validator": lambda: read_ready(READY),
        "backups": lambda: read_backups(BACKUPS, REPOSITORY, time.time(), time.monotonic()),
    }


def main(units: list[str]) -> None:
    """Measure and send."""
    slow: dict[str, Callable[[], Iterable[Metric]]] = {
        "status": lambda: parse_status(run("/usr/bin/qtrade-agent", "status")),
        "nvme": lambda: read_nvme(DEVICES),
    }
    lines = [metric.line() for metric in collect(fast_sources(units))]
    send([*lines, *collect_slow(slow, KEPT, time.time())], AGENT)


if __name__ == "__main__":
    main(sys.argv[1:])
