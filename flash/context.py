"""What the steps of a flash share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flash.agent_link import AgentLink
from flash.chunks import chunk_lists
from flash.config import Bundle
from flash.drivers import PowerControl, PowerState, driver_for
from flash.jobs import JobBuilder
from flash.journal import Journal
from flash.secrets import resolve
from flash.ssh import known_hosts_path, target_for
from flash.trust import VerifiedImage
from qtrade.errors import QtradeError, Refused
from qtrade.manifest import Environment, Host
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.trust.keyring import ensure_keyring

Evidence = dict[str, Any]
# What flash.agent.survey takes for every disk: the host manifest has said that nothing on it counts.
ADOPT_ANY = "any"
_Ability = TypeVar("_Ability")
# One lost answer is no sign that nothing runs there.
_ANSWER_S = 90.0


@dataclass(frozen=True)
class Reimage:
    """What an installation may give up of the OS disk.

    `adopt` is the digest of the disks as the agent has shown them, for a disk that holds something else than qtrade's.
    """

    adopt: str = ""
    remake_system: bool = False
    wipe_state: bool = False

    @property
    def is_asked(self) -> bool:
        """Whether an operator wants the OS disk made anew, which no running host can do to itself."""
        return self.remake_system or self.wipe_state or self.adopt not in ("", ADOPT_ANY)


@dataclass
class FlashContext:
    """One flash under way.

    `clean_up` functions run when the flash ends, however it ends. `was_powered_off` says that a door has ended the old system.
    `token` is that of the lease, once the host is held.
    """

    settings: Settings
    host: Host
    environment: Environment
    image: VerifiedImage
    store: Store
    bundle: Bundle
    reporter: Reporter
    journal: Journal
    allow_older: bool = False
    reimage: Reimage = field(default_factory=Reimage)
    clean_up: list[Callable[[], None]] = field(default_factory=list)
    was_powered_off: bool = False
    token: int = 0

    @property
    def jobs(self) -> JobBuilder:
        """Return the maker of jobs for this host."""
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

    @contextmanager
    def driver(self, ability: type[_Ability]) -> Iterator[_Ability]:
        """Log in to the host's API for one ability of it. Raises `Refused` when the driver lacks it."""
        where = f"host {self.host.name}: driver"
        driver = driver_for(
            self.host.driver,
            lambda ref: resolve(self.settings, where, ref).decode(),
            folder=self.settings.state_dir / "api",
            say=self.reporter.say,
        )
        if not isinstance(driver, ability):
            raise Refused(
                f"{where} {self.host.driver.kind} has no {ability.__name__}",
                resolution="use another door, or switch the host by hand",
            )
        with driver:
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
        except QtradeError:
            return False

    def status_or_none(self) -> Evidence | None:
        """Return the running host's status, or None when it does not answer. Nobody waits for a host that has no power."""
        if not self.is_known or self.is_off():
            return None
        try:
            return self.wait_for_status(lambda _: True, within_s=_ANSWER_S, what="an answer")
        except QtradeError:
            return None

    def wait_for_status(self, accept: Callable[[Evidence], bool], *, within_s: float, what: str) -> Evidence:
        """As `AgentLink.wait_for_status`."""
        return self.link.wait_for_status(accept, within_s=within_s, what=what)
