"""The provider's own lock of a host, where it has one: taken off for the calls of a flash, and put on again when that ends.

Whether it was on stands in the journal before it is taken off, so that a flash that was killed puts it on again once it is taken up.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from flash.access import HostAccess
from flash.drivers import HostLock
from qtrade.errors import QtradeError, Refused
from qtrade.store.leases import LeaseLost


def is_locked(access: HostAccess) -> bool:
    """Say whether the provider's lock is on; False where there is none, or where the API does not say."""
    try:
        with access.driver(HostLock) as driver:
            return driver.is_locked()
    except LeaseLost:
        raise
    except Refused:
        return False
    except QtradeError as error:
        access.reporter.say(f"warning: whether {access.host.name} is locked at its provider is unknown: {error.brief}")
        return False


def lock_again(access: HostAccess) -> None:
    """Put the lock on again; a provider that does not let it is warned about."""
    access.unlocks = False
    try:
        with access.driver(HostLock) as driver:
            driver.lock()
    except QtradeError as error:
        access.reporter.say(
            f"warning: {access.host.name} stays unlocked at its provider ({error.brief}): lock it again in the portal"
        )


@contextmanager
def unlocked(access: HostAccess) -> Iterator[None]:
    """Let the calls within the `with` block take the lock off, and put it on again in the end, if it was on."""
    access.unlocks = is_locked(access)
    try:
        yield
    finally:
        if access.unlocks:
            lock_again(access)
