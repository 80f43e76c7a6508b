"""Loads by programs that the image brings, run as the accounts that may: the Geyser stream and PostgreSQL's writes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flash.bench.figures import Figures, read_figures, read_reasons
from qtrade.errors import ToolError
from qtrade.ssh import SshTarget

_ABSENT = 77
_MARGIN_S = 60.0


@dataclass(frozen=True)
class Program:
    """A program that measures: who may run it, the names of its figures, the role that brings it."""

    role: str
    account: str
    path: str
    prefix: str
    figures: tuple[str, ...]


STREAM = Program(
    "geyser",
    "sol",
    "/usr/lib/qtrade/geyser/measure.py",
    "bench.stream_",
    ("delay_p50_ms", "delay_p90_ms", "delay_p99_ms", "delay_max_ms", "slots_per_s", "slot_gaps"),
)
POSTGRES = Program(
    "postgres",
    "postgres",
    "/usr/lib/qtrade/postgres/bench.py",
    "bench.postgres_",
    ("write_p50_ms", "write_p90_ms", "write_p99_ms", "write_max_ms", "writes_per_s"),
)


def run_program(operator: SshTarget, program: Program, options: Mapping[str, int], *, seconds: int) -> Figures:
    """Run a program that takes so long, and return its figures. An image that has none of it, and a host that cannot, are told as missing.

    Raises `HostError` when the host cannot be reached.
    """
    words = " ".join(f"--{name} {value}" for name, value in options.items())
    # A write load may take twice its time on a server that is behind, and says so then.
    within_s = 2 * seconds + _MARGIN_S
    command = (
        f"test -x {program.path} || exit {_ABSENT}; "
        f"exec timeout -k 10 {within_s:.0f} sudo -n -u {program.account} {program.path} {words}"
    )
    try:
        done = operator.run(command, timeout_s=within_s + 30, check=False)
    except ToolError as error:
        return _failed(program, error.brief)
    if done.returncode == _ABSENT:
        return missing(program, f"the image has no {program.path}: bake and flash a newer one")
    return read_result(program, done.stdout, done.stderr)


def missing(program: Program, why: str) -> Figures:
    """Return that nothing of a program's was measured, and why."""
    return Figures(missing={f"{program.prefix}{name}": why for name in program.figures})


def read_result(program: Program, stdout: str, stderr: str) -> Figures:
    """Return the figures that a program printed. Pure."""
    try:
        lines = [json.loads(line) for line in stdout.splitlines() if line.strip()]
        told: dict[str, Any] = dict(lines[-1]["result"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return _failed(program, f"no result: {' '.join(stderr.split())[-150:] or 'it printed none'}")
    if "missing" in told:
        return missing(program, str(told["missing"])[:150])
    found = read_figures(program.prefix, told, program.figures)
    return found.plus(Figures(reasons=read_reasons(program.role, told)))


def _failed(program: Program, why: str) -> Figures:
    return missing(program, why).plus(Figures(reasons=(f"{program.role}: {why}",)))
