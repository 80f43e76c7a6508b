"""The ways to a host that is held: its agent, and its driver. Whoever has lost the lease gets no further."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from flash.agent_link import AgentLink
from flash.chunks import chunk_lists
from flash.drivers import HostLock, PowerControl, PowerState, driver_for
from flash.jobs import JobBuilder
from flash.lease import lease
from flash.secrets import secret_reader
from flash.ssh import known_hosts_path, target_for
from flash.ssh_checks import check_login
from qtrade.errors import QtradeError, Refused
from qtrade.manifest import Host
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.store.leases import LeaseLost
from qtrade.trust.keyring import ensure_keyring

Evidence = dict[str, Any]
_Ability = TypeVar("_Ability")
# One lost answer is no sign that nothing runs there.
_ANSWER_S = 90.0


class HostAccess:
    """What flash, rollback and errands share.

    `token` is that of the lease; `check_held` raises `LeaseLost` once it is lost. With `unlocks`, the provider's lock was on and is
    taken off before its API is used (`flash.provider_lock`).
    """

    settings: Settings
    host: Host
    store: Store
    reporter: Reporter
    token: int
    check_held: Callable[[], None]
    unlocks: bool = False

    @property
    def jobs(self) -> JobBuilder:
        """Return the maker of jobs for this host. Raises `LeaseLost` when somebody else holds it."""
        self.check_held()
        return JobBuilder(
            self.host,
            ensure_keyring(self.settings),
            token=self.token,
            chunks=chunk_lists(self.settings, self.store),
        )

    @property
    def link(self) -> AgentLink:
        """Return the way to the agent of the running host."""
        return AgentLink(target_for(self.settings, self.host))

    def check_login(self) -> None:
        """Look at what we log in with before anybody does, as `flash.ssh_checks.check_login`."""
        check_login(self.settings, self.host, self.reporter)

    @contextmanager
    def driver(self, ability: type[_Ability]) -> Iterator[_Ability]:
        """Log in to the host's API for one ability of it.

        Raises `Refused` when the driver lacks it, `LeaseLost` when somebody else holds the host.
        """
        self.check_held()
        where = f"host {self.host.name}: driver"
        driver = driver_for(
            self.host.driver,
            secret_reader(self.settings, self.host, "driver"),
            folder=self.settings.state_dir / "api",
            say=self.reporter.say,
        )
        if not isinstance(driver, ability):
            raise Refused(
                f"{where} {self.host.driver.kind} has no {ability.__name__}",
                resolution="use another door, or switch the host by hand",
            )
        with driver:
            if self.unlocks and isinstance(driver, HostLock):
                driver.unlock()
            yield driver

    @property
    def is_known(self) -> bool:
        """Whether the host's SSH key is pinned, that is, whether qtrade has flashed it before."""
        return known_hosts_path(self.settings, self.host.name).is_file()

    def is_off(self) -> bool:
        """Say whether the driver says that the host has no power; False where it cannot say."""
        try:
            with self.driver(PowerControl) as driver:
                return driver.power_state() is PowerState.OFF
        except LeaseLost:
            raise
        except QtradeError:
            return False

    def status_or_none(self, asking: str = "") -> Evidence | None:
        """Return the running host's status, or None when it does not answer. Nobody waits for a host that has no power.

        While it waits, people are shown what it is `asking`.
        """
        if not self.is_known or self.is_off():
            return None
        try:
            with self.reporter.step(asking) if asking else nullcontext():
                return self.wait_for_status(lambda _: True, within_s=_ANSWER_S, what="an answer")
        except QtradeError:
            return None

    def wait_for_status(self, accept: Callable[[Evidence], bool], *, within_s: float, what: str) -> Evidence:
        """As `AgentLink.wait_for_status`."""
        return self.link.wait_for_status(accept, within_s=within_s, what=what)


@dataclass
class HeldAccess(HostAccess):
    """The ways to a host for as long as a lease of it is held, for what is no flash."""

    settings: Settings
    host: Host
    store: Store
    reporter: Reporter
    token: int
    check_held: Callable[[], None]
    unlocks: bool = False


@contextmanager
def held_access(settings: Settings, store: Store, host: Host, reporter: Reporter) -> Iterator[HeldAccess]:
    """Hold the host. Raises `ConflictError` as `lease`."""
    with lease(settings, store, host.name, reporter) as held:
        yield HeldAccess(settings, host, store, reporter, held.token, held.check)
