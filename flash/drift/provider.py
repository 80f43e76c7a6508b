"""Compare what a host's provider or BMC says: rescue mode left on, a boot override that was not taken back, a lock that is off."""

from collections.abc import Iterator

from flash.drift.findings import Finding, Remedy
from flash.drivers import BootControl, Driver, HostLock, RescueState, driver_for
from flash.secrets import secret_reader
from qtrade.errors import QtradeError
from qtrade.manifest import DriftKind, DriftPolicy, Host
from qtrade.settings import Settings


def compare_provider(settings: Settings, host: Host, policy: DriftPolicy) -> tuple[Finding, ...]:
    """Ask the host's driver for what it can tell. An API that does not answer is a finding too."""
    driver = driver_for(host.driver, secret_reader(settings, host, "driver"), folder=settings.state_dir / "api")
    try:
        with driver:
            return tuple(ask_driver(driver, policy))
    except QtradeError as error:
        return (
            Finding(
                DriftKind.UNOBSERVED, "provider", f"{host.driver.kind} does not answer", Remedy.HAND,
                found=f"{error.brief} {error.details}".strip(), hint=error.resolution,
            ),
        )  # fmt: skip


def ask_driver(driver: Driver, policy: DriftPolicy) -> Iterator[Finding]:
    """Yield what differs, as far as the driver has the abilities to tell. Raises `QtradeError` where its API fails."""
    if isinstance(driver, RescueState) and driver.is_in_rescue():
        yield _provider(
            "rescue",
            "rescue mode was left on: the next boot is not from the disk",
            "off",
            "on",
            "leave it in the portal",
        )
    if isinstance(driver, BootControl):
        override = driver.boot_override()
        if override.is_set:
            found = f"{override.target} {override.enabled}"
            yield _provider("boot_override", "a boot override was left on", "none", found, "clear it at the BMC")
    if policy.provider_lock and isinstance(driver, HostLock) and not driver.is_locked():
        yield _provider("lock", "the provider's lock is off", "on", "off", "lock the host in the portal")


def _provider(subject: str, what: str, expected: str, found: str, hint: str) -> Finding:
    return Finding(DriftKind.PROVIDER, subject, what, Remedy.HAND, expected, found, hint)
