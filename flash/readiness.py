"""Wait for services that need long after a boot, each by its own program on the host: a validator catches up before it can be judged.

It is asked in short rounds, so that a lost connection, a unit that fails and a host that rebooted are each seen in time.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from flash.config import value_of
from flash.context import Evidence, FlashContext
from flash.ssh import target_for
from qtrade.errors import HostError, QtradeError
from qtrade.manifest import Environment, Host, Image
from qtrade.ssh import SshTarget

_ROUND_S = 60
_ANSWER_S = 60.0
_PAUSE_S = 7.0


@dataclass(frozen=True)
class Program:
    """What tells whether a role's service is ready, and the host's value that says how long that may take (seconds)."""

    name: str
    deadline: str


# The last line of its output is JSON with `ready` and `reasons` (role agave, ready.py).
PROGRAMS = {"agave": Program("qtrade-agave-ready", "agave_catch_up_deadline_s")}


def ready_within_s(host: Host, environment: Environment, image: Image) -> float:
    """Return how long the services of the image may take until they are ready, in seconds."""
    return sum(float(value_of(host, environment, image, program.deadline)) for program in _programs(image))


def wait_until_ready(context: FlashContext) -> Evidence:
    """Wait for each service, telling how far it is. Raises `HostError` when one fails, the host reboots, or time is up."""
    found: Evidence = {}
    for program in _programs(context.image.image):
        within_s = float(value_of(context.host, context.environment, context.image.image, program.deadline))
        with context.reporter.step(f"{program.name}: waits up to {within_s:.0f} s"):
            found[program.name] = _wait(context, program, within_s)
    return found


def check_ready(context: FlashContext) -> Evidence:
    """Ask each service once whether it is ready. Raises `HostError` for one that is not, or that does not say."""
    found: Evidence = {}
    target = target_for(context.settings, context.host, user=context.host.ssh.operator)
    for program in _programs(context.image.image):
        try:
            verdict, _ = _ask(target, program, 0, None)
        except _Unanswered as lost:
            raise HostError(f"{context.host.name}: {program.name} does not answer", details=str(lost)) from lost
        if not verdict["ready"]:
            raise HostError(
                f"{context.host.name} is not ready: {'; '.join(verdict['reasons'])}",
                resolution=f"run `{program.name}` on the host, and wait until it has caught up",
            )
        found[program.name] = {"lag": verdict["lag"]}
    return found


def _programs(image: Image) -> list[Program]:
    # A program counts with the value that it waits by: an image without it has another kind of that role.
    declared = {name for inputs in image.inputs.values() for name in inputs.values}
    roles = [layer.role for layer in image.layers]
    return [PROGRAMS[role] for role in roles if role in PROGRAMS and PROGRAMS[role].deadline in declared]


def _wait(context: FlashContext, program: Program, within_s: float) -> dict[str, Any]:
    target = target_for(context.settings, context.host, user=context.host.ssh.operator)
    boot_id = context.journal.evidence("boot_id")
    start = time.monotonic()
    told, last = "", "no answer yet"
    while (left_s := start + within_s - time.monotonic()) > 0:
        try:
            verdict, said = _ask(target, program, min(_ROUND_S, left_s), boot_id)
        except _Unanswered as lost:
            last = str(lost)
            time.sleep(_PAUSE_S)
            continue
        if verdict["ready"]:
            return {"ready_after_s": round(time.monotonic() - start, 1), "lag": verdict.get("lag")}
        last = said or "; ".join(verdict["reasons"])
        if last != told:
            context.reporter.say(f"{context.host.name}: {last}")
            told = last
    raise HostError(
        f"{context.host.name} is not ready after {within_s:.0f} s",
        details=last,
        resolution=f"run `{program.name}` on the host; raise {program.deadline} if it only needs longer",
    )


class _Unanswered(Exception):
    """The host did not say how far it is."""


def _ask(target: SshTarget, program: Program, wait_s: float, boot_id: str | None) -> tuple[dict[str, Any], str]:
    """Return the verdict after one round and the last line of progress. Raises `HostError` when waiting on is no use, `_Unanswered`."""
    command = (
        "cat /proc/sys/kernel/random/boot_id; systemctl list-units --failed --plain --no-legend | cut -d' ' -f1 | xargs echo;"
        f" {program.name} --wait {wait_s:.0f}"
    )
    try:
        done = target.run(command, timeout_s=wait_s + _ANSWER_S, check=False)
    except QtradeError as error:
        raise _Unanswered(f"{error.brief} {error.details}".strip()) from error
    lines = done.stdout.splitlines()
    if len(lines) < 2:
        raise _Unanswered(f"no answer: {done.stderr[-300:]}")
    if boot_id and lines[0] != boot_id:
        raise HostError(f"{target.host} rebooted while it was waited for", details=f"boot_id {lines[0]}")
    if lines[1].strip():
        raise HostError(
            f"{target.host} has failed units: {lines[1].strip()}",
            resolution=f"read `journalctl -u {lines[1].split()[0]}` on the host",
        )
    try:
        verdict = json.loads(lines[-1])
        said = [line.removeprefix("waiting: ") for line in done.stderr.splitlines() if line.startswith("waiting: ")]
        return {"ready": verdict["ready"], "reasons": verdict["reasons"], "lag": verdict.get("lag")}, (said or [""])[-1]
    except (ValueError, KeyError, TypeError) as error:
        raise HostError(
            f"{target.host}: {program.name} gave no verdict (code {done.returncode})",
            details=done.stderr[-1000:],
            resolution="look whether the host's config is the one that was pushed",
        ) from error
