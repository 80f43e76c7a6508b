"""What a host shows of itself before it is measured, and the hardware class that follows from it."""

import math
from dataclasses import dataclass
from typing import Any

from flash.bench.sent import run_on_host
from qtrade.errors import HostError
from qtrade.ssh import SshTarget

_LOOK_S = 60.0
_KIB_PER_GIB = 1 << 20


@dataclass(frozen=True)
class Rpc:
    """Where a validator's JSON-RPC listens."""

    port: int
    bind: str

    @property
    def is_loopback(self) -> bool:
        """Whether only the host itself reaches it."""
        return self.bind.startswith("127.")


@dataclass(frozen=True)
class Seen:
    """A host as it showed itself. `rpc` is None without a validator, `stake` (lamports) where it did not tell."""

    cpu: str
    threads: int
    memory_kib: int
    link_mbit: int
    rpc: Rpc | None = None
    stake: int | None = None
    stake_problem: str = ""

    @property
    def hardware_class(self) -> str:
        """Return the name of machines that are alike: processor, threads, memory as it is sold, fastest link."""
        link = f"{self.link_mbit / 1000:g} Gbit/s" if self.link_mbit > 0 else "unknown link"
        return f"{_shorten(self.cpu)}, {self.threads} threads, {_sold_gib(self.memory_kib)} GiB, {link}"


def look_at(target: SshTarget) -> Seen:
    """Ask the host what it is. Raises `HostError` where it does not tell, or tells nonsense."""
    return parse_seen(target.host, run_on_host(target, ("look",), {}, within_s=_LOOK_S))


def parse_seen(host: str, found: dict[str, Any]) -> Seen:
    """Return what a host told. Raises `HostError` for another form: a host may say what it likes."""
    try:
        machine, rpc, votes = found["machine"], found["rpc"], found["votes"] or {}
        stake = votes.get("stake")
        return Seen(
            cpu=str(machine["cpu"])[:200],
            threads=int(machine["threads"]),
            memory_kib=int(machine["memory_kib"]),
            link_mbit=int(machine["link_mbit"]),
            rpc=Rpc(int(rpc["port"]), str(rpc["bind"])[:64]) if rpc else None,
            stake=None if stake is None else int(stake),
            stake_problem=str(votes.get("problem", ""))[:200],
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise HostError(
            f"{host} does not tell what machine it is",
            details=repr(error)[:300],
            resolution="log in as its operator and look at /proc/cpuinfo, /proc/meminfo and /sys/class/net",
        ) from error


def _shorten(cpu: str) -> str:
    """Return a processor's name without marks and what says nothing, on one line of plain text."""
    plain = "".join(letter if letter.isascii() and letter.isprintable() else " " for letter in cpu)
    for noise in ("(R)", "(TM)", "(tm)", "Processor", "CPU"):
        plain = plain.replace(noise, " ")
    return " ".join(plain.partition("@")[0].replace(",", " ").split())[:60] or "unknown processor"


def _sold_gib(memory_kib: int) -> int:
    """Return the memory as it is sold: firmware and kernel keep a share, so that two machines that are alike show different figures."""
    gib = memory_kib / _KIB_PER_GIB
    step = 32 if gib > 64 else 4 if gib > 8 else 1
    return max(math.ceil(gib / step) * step, 1)
