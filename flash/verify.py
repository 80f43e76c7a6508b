"""Prove that a host does its work: services, readiness, the Geyser stream, monitoring, the roles' specs. For people, and as a gate.

Each check asks the host's own programs, as its operator. A check that does not apply is skipped with its reason, and says so.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from flash.agent_link import AgentLink
from flash.config import render_bundle
from flash.context import FlashContext
from flash.hardware import check_hardware
from flash.health import check_specs, wait_until_settled
from flash.inventory import load_environment, load_host
from flash.journal import Journal
from flash.readiness import check_ready
from flash.ssh import target_for
from flash.trust import load_installed
from qtrade.errors import HostError, QtradeError, UsageError
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.ssh import SshTarget
from qtrade.store import open_store
from qtrade.trust.keyring import ensure_keyring

CHECKS = ("image", "hardware", "services", "readiness", "geyser", "monitoring", "specs")
_SETTLE_S = 60.0
_STREAM = "sudo -n -u sol /usr/lib/qtrade/geyser/stream.py"
_KEY = "datadog_api_key"
# The Collector's own metrics, at the port that it was baked with; no program besides Python is on every host.
_TELEMETRY = (
    'python3 -IBc "import json, urllib.request as r; '
    "a = json.load(open('/usr/share/qtrade/arguments.d/datadog.json'))['arguments']; "
    "print(r.urlopen('http://127.0.0.1:%d/metrics' % a['datadog_collector_telemetry_port'], timeout=10).read().decode())\""
)
# Newer Collectors add `_total` (OpenTelemetry's exposition of counters for Prometheus).
_POINTS = re.compile(
    r"^otelcol_(receiver_accepted|exporter_sent|exporter_send_failed)_metric_points(?:_total)?(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE
)  # fmt: skip


class CheckState(StrEnum):
    """How a check ended."""

    PROVEN = "proven"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """One check: what it told, and how to mend it where it failed."""

    name: str
    state: CheckState
    told: str
    resolution: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class VerifyResult:
    """All checks of a host."""

    host: str
    version: str
    image: str
    checks: tuple[Check, ...]

    def require_proven(self) -> None:
        """Raise `HostError`, naming each check that failed."""
        failed = [check for check in self.checks if check.state is CheckState.FAILED]
        if failed:
            raise HostError(
                f"{self.host}: {len(failed)} of {len(self.checks)} checks fail: {', '.join(check.name for check in failed)}",
                details="\n".join(f"  {check.name}: {check.told}" for check in failed),
                resolution="; ".join(dict.fromkeys(check.resolution for check in failed if check.resolution)),
            )


class _Skip(Exception):
    """The check does not apply to this host."""


def verify(
    settings: Settings, host_name: str, reporter: Reporter, *, required: frozenset[str] = frozenset()
) -> VerifyResult:
    """Run all checks, whatever becomes of one; those in `required` fail where they would be skipped.

    Raises `HostError` when the host does not answer, `NotFound` for an unknown image, `UsageError` for a check that there is not.
    """
    unknown = sorted(required - set(CHECKS))
    if unknown:
        raise UsageError(f"there is no check {unknown[0]}", resolution=f"use {', '.join(CHECKS)}")
    context, status = _open(settings, host_name, reporter)
    checks: dict[str, Callable[[], str]] = {
        "image": lambda: _check_image(context, status),
        "hardware": lambda: _machine(context),
        "services": lambda: _settled(context),
        "readiness": lambda: _ready(context),
        "geyser": lambda: _stream(context),
        "monitoring": lambda: _heard(context),
        "specs": lambda: _specs(context),
    }
    done = tuple(_require(_run(name, checks[name], reporter), required) for name in CHECKS)
    return VerifyResult(host_name, status["version"], status["image"], done)


def _open(settings: Settings, host_name: str, reporter: Reporter) -> tuple[FlashContext, dict[str, Any]]:
    host, store = load_host(settings, host_name), open_store(settings)
    environment = load_environment(settings, host)
    status = AgentLink(target_for(settings, host)).status()
    image = load_installed(store, host.recipe, status["version"], ensure_keyring(settings).trust)
    bundle = render_bundle(host, environment, image.image)
    # No flash: nothing is written to the journal.
    journal = Journal(settings.state_dir / "flashes" / host.name / "none.jsonl")
    return FlashContext(settings, host, environment, image, store, bundle, reporter, journal), status


def _require(check: Check, required: frozenset[str]) -> Check:
    """Return the check, as failed where it was skipped and must not be."""
    if check.state is not CheckState.SKIPPED or check.name not in required:
        return check
    cure = f"give the host what {check.name} needs, or do not require it"
    return replace(check, state=CheckState.FAILED, told=f"required, but {check.told}", resolution=cure)


def _run(name: str, check: Callable[[], str], reporter: Reporter) -> Check:
    start = time.monotonic()
    state, resolution = CheckState.PROVEN, ""
    try:
        with reporter.step(name):
            told = check()
    except _Skip as skipped:
        state, told = CheckState.SKIPPED, str(skipped)
    except QtradeError as error:
        state, told, resolution = (
            CheckState.FAILED,
            "; ".join(filter(None, (error.brief, error.details))),
            error.resolution,
        )
    return Check(name, state, told, resolution, round(time.monotonic() - start, 2))


def _check_image(context: FlashContext, status: dict[str, Any]) -> str:
    image = context.image.image
    if status["image"] != image.id or status["state"] != "persistent":
        raise HostError(
            f"runs {status['image'][:16]}… with state {status['state']}, not {image.id[:16]}… with state persistent",
            resolution="flash the host",
        )
    return f"{image.name} {image.version}, checked by {status['verified']}"


def _machine(context: FlashContext) -> str:
    found = check_hardware(context.settings, context.host, context.environment)
    if not found:
        raise _Skip(f"environment {context.environment.name} asks nothing of the machine of a {context.host.role}")
    return f"{found['threads']} threads, {found['memory_kib'] >> 20} GiB, link {found['link_mbit']} Mbit/s"


def _settled(context: FlashContext) -> str:
    return f"system {wait_until_settled(context, within_s=_SETTLE_S)['system']}, no unit has failed"


def _ready(context: FlashContext) -> str:
    found = check_ready(context)
    if not found:
        raise _Skip("no role of the image has a program that tells whether it is ready")
    return ", ".join(f"{name}: ready, lag {one['lag']}" for name, one in found.items())


def _stream(context: FlashContext) -> str:
    if not _has_role(context, "geyser"):
        raise _Skip("the image has no Geyser plugin")
    done = _operator(context).run(_STREAM, timeout_s=120, check=False)
    try:
        told = json.loads(done.stdout)
    except ValueError as error:
        raise HostError("the stream's own client gave no answer", details=done.stderr[-500:]) from error
    if not told.get("ok"):
        raise HostError(
            "Subscribe brought no slots that advance",
            details=f"status {told.get('status')}: {told.get('message')}",
            resolution="read `journalctl -u agave-validator` on the host",
        )
    how = "with the host's token" if told.get("has_token") else "without a token, on loopback"
    return f"Subscribe {how}: slots {told['slots'][0]} to {told['slots'][-1]}"


def _heard(context: FlashContext) -> str:
    if not _has_role(context, "datadog"):
        raise _Skip("the image has no monitoring")
    if _KEY not in context.host.secrets:
        raise _Skip(f"the host's manifest names no secret {_KEY}: nothing is sent")
    done = _operator(context).run(_TELEMETRY, check=False)
    if done.returncode:
        raise HostError(
            "the Collector's own metrics do not answer", details=done.stderr[-300:],
            resolution="read `journalctl -u otelcol-contrib` on the host",
        )  # fmt: skip
    points = count_points(done.stdout)
    if not points.get("receiver_accepted"):
        raise HostError("no metric of this host arrived at its Collector", resolution="look which receivers answer it")
    if not points.get("exporter_sent"):
        raise HostError(
            f"the Collector has {points['receiver_accepted']:.0f} points and has sent none",
            details=f"failed: {points.get('exporter_send_failed', 0):.0f}",
            resolution="look whether the key is the site's, and whether the site can be reached",
        )  # fmt: skip
    return f"the Collector took {points['receiver_accepted']:.0f} metric points and sent {points['exporter_sent']:.0f}"


def count_points(text: str) -> dict[str, float]:
    """Return the sums of the Collector's counters of metric points, over receivers and exporters: accepted, sent, failed."""
    sums: dict[str, float] = {}
    for name, value in _POINTS.findall(text):
        sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def _specs(context: FlashContext) -> str:
    found = check_specs(context)
    return f"{found['specs']} specs hold, {len(found['specs_skipped'])} skipped"


def _has_role(context: FlashContext, role: str) -> bool:
    return any(layer.role == role for layer in context.image.image.layers)


def _operator(context: FlashContext) -> SshTarget:
    return target_for(context.settings, context.host, user=context.host.ssh.operator)
