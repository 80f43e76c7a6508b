"""What the steps of a flash share."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flash.access import Evidence, HostAccess
from flash.config import Bundle
from flash.journal import Journal
from flash.trust import VerifiedImage
from qtrade.manifest import Environment, Host
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store

# What flash.agent.survey takes for every disk: the host manifest has said that nothing on it counts.
ADOPT_ANY = "any"

__all__ = ["ADOPT_ANY", "Evidence", "FlashContext", "Reimage"]


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
class FlashContext(HostAccess):
    """One flash under way.

    `clean_up` functions run when the flash ends, however it ends. `was_powered_off` says that a door has ended the old system,
    `was_drained` that what runs has stopped its services, `left_boot_id` which boot was drained last. `written` says whether the
    installer has written to the OS disk, or may have; None: as the state says. `token` is that of the lease, once the host is held.
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
    was_drained: bool = False
    left_boot_id: str | None = None
    written: bool | None = None
    token: int = 0
    check_held: Callable[[], None] = lambda: None
    unlocks: bool = False
