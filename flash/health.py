"""Is the host healthy: its system is up, nothing failed, and the roles' specs hold on it."""

import time

from flash.access import HostAccess
from flash.context import Evidence, FlashContext
from flash.ssh import target_for
from qtrade.errors import HostError
from qtrade.manifest import Host
from qtrade.settings import Settings
from qtrade.specs import Mark, SpecResult
from qtrade.specs.remote import run_over_ssh

_SETTLED = ("running", "degraded")


def wait_until_settled(context: HostAccess, *, within_s: float) -> Evidence:
    """Wait until systemd has started everything. Raises `HostError`, naming failed units."""
    target = target_for(context.settings, context.host, user=context.host.ssh.operator)
    deadline = time.monotonic() + within_s
    state = "unknown"
    while time.monotonic() < deadline:
        state = target.run("systemctl is-system-running", check=False, timeout_s=60).stdout.strip()
        if state in _SETTLED:
            break
        time.sleep(2)
    failed = target.run("systemctl list-units --failed --plain --no-legend", check=False).stdout.split("\n")
    names = [line.split()[0] for line in failed if line.strip()]
    if state != "running" or names:
        raise HostError(
            f"{context.host.name} is {state}",
            details=f"failed units: {', '.join(names) or 'none'}",
            resolution=f"read `journalctl -u {names[0] if names else 'UNIT'}` on the host",
        )
    return {"system": state}


def run_specs(settings: Settings, host: Host, roles: tuple[str, ...]) -> SpecResult:
    """Run the roles' specs for booted machines and configured hosts, logged in as its operator. Raises `ToolError` when they cannot run."""
    target = target_for(settings, host, user=host.ssh.operator)
    work = settings.state_dir / "specs" / host.name
    return run_over_ssh(settings, target, roles, (Mark.BOOTED, Mark.HOST), work)


def check_specs(context: FlashContext) -> Evidence:
    """Run the specs; return how many held, and each that was skipped, with its reason. Raises `HostError` with each failure."""
    roles = tuple(layer.role for layer in context.image.image.layers[1:])
    result = run_specs(context.settings, context.host, roles)
    if result.failures:
        raise HostError(
            f"{context.host.name}: {len(result.failures)} of {result.ran} specs fail",
            details="\n".join(f"  {role}: {test}: {message[:400]}" for role, test, message in result.failures),
            resolution="mend the role or the host's config",
        )
    skipped = [f"{role}: {test}: {message}" for role, test, message in result.skipped]
    for line in skipped:
        # What nobody looked at is not proven, and an operator decides whether that matters on this host.
        context.reporter.say(f"{context.host.name}: not proven, skipped: {line}")
    return {"specs": result.ran, "specs_skipped": skipped}
