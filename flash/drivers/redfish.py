"""Redfish BMCs, through sushy, which knows the vendors' differences.

Two rules of ours on top: what was set is read back, and a power state counts only once its change was seen.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from flash.drivers.abilities import BootOverride, BootSource, OverrideEnabled, PowerState
from qtrade.errors import BadInput, HostError
from qtrade.redaction import redact, register_secret

if TYPE_CHECKING:
    import sushy


class RedfishAccess(Protocol):
    """How to reach a host's BMC; the `driver` of a host manifest is one."""

    @property
    def url(self) -> str:
        """Where the BMC listens, without a path."""
        ...

    @property
    def system(self) -> str:
        """Path of the system, such as /redfish/v1/Systems/1."""
        ...

    @property
    def username(self) -> str:
        """Who logs in."""
        ...

    @property
    def password_file(self) -> Path:
        """File that holds nothing but the password."""
        ...

    @property
    def verify_tls(self) -> bool:
        """Whether the BMC's certificate must be valid."""
        ...


Connect = Callable[[RedfishAccess], "tuple[Any, Callable[[], None]]"]
_Word = TypeVar("_Word", bound=StrEnum)
_POLL_S = 1.0
_DEADLINE_S = 180.0
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60


class RedfishDriver:
    """Power, boot override and virtual media of one system. Connects at the first call; a context manager logs out.

    `connect` logs in and returns sushy's System and what logs out again; `clock` and `sleep` are for tests.
    """

    def __init__(
        self,
        access: RedfishAccess,
        *,
        connect: Connect | None = None,
        deadline_s: float = _DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._access = access
        self._connect = connect or connect_system
        self._deadline_s = deadline_s
        self._clock = clock
        self._sleep = sleep
        self._known: Any = None
        self._log_out: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Log out: BMCs have few sessions. The next call would log in again."""
        # A session that cannot be ended is gone already, or ends by its own time limit.
        with suppress(HostError), self._asking("log out"):
            self._log_out()
        self._known, self._log_out = None, lambda: None

    def power_state(self) -> PowerState:
        """Ask for the state now."""
        with self._asking("read the power state"):
            return _power_state(self._system())

    def power_on(self) -> None:
        """Switch on and wait until the BMC says so."""
        self._switch("ON", PowerState.ON)

    def power_off(self) -> None:
        """Cut the power and wait until the BMC says so."""
        self._switch("FORCE_OFF", PowerState.OFF)

    def power_cycle(self) -> None:
        """Cut the power, see it off, switch on: a single reset request would leave nothing to see."""
        self.power_off()
        self.power_on()

    def boot_once(self, source: BootSource) -> BootOverride:
        """Make the next boot use `source`; return the override as it was read back.

        Raises `HostError` when the BMC refuses, or afterwards says something else. CONTINUOUS in place of ONCE is let
        through, as some BMCs know nothing else: whoever calls this also calls `clear_boot_override` after the boot.
        """
        from sushy import BootSource as Source  # noqa: PLC0415 - slow to import
        from sushy import BootSourceOverrideEnabled as Enabled  # noqa: PLC0415

        with self._asking(f"make the next boot use {source}"):
            self._system().set_system_boot_options(Source(source.value), Enabled.ONCE)
        override = self.boot_override()
        if override.target is not source or override.enabled is OverrideEnabled.DISABLED:
            raise HostError(
                f"the BMC at {self._access.url} took the boot override {source} but did not keep it",
                details=f"it says {override.target}, {override.enabled}",
                resolution="use another door for this host, such as pxe, and report the BMC's firmware to its vendor",
            )
        return override

    def boot_override(self) -> BootOverride:
        """Read the override."""
        with self._asking("read the boot override"):
            boot = self._system().boot
            if boot is None:
                return BootOverride()
            return BootOverride(
                _member(BootSource, boot.target, BootSource.NONE),
                _member(OverrideEnabled, boot.enabled, OverrideEnabled.DISABLED),
                boot.http_boot_uri,
            )

    def clear_boot_override(self) -> None:
        """Take the override back, and check that it is gone."""
        from sushy import BootSourceOverrideEnabled as Enabled  # noqa: PLC0415 - slow to import

        if not self.boot_override().is_set:
            return
        with self._asking("clear the boot override"):
            self._system().set_system_boot_options(enabled=Enabled.DISABLED)
        if self.boot_override().is_set:
            raise HostError(
                f"the BMC at {self._access.url} keeps its boot override",
                resolution="clear the one-time boot option in the BMC's own interface before the host boots again",
            )

    def insert(self, url: str) -> None:
        """Show the image at `url` as a CD, in place of what was there, and check that it is in."""
        with self._asking(f"insert {url}"):
            drive = self._cd_drive()
            if drive.inserted:
                drive.eject_media()
            drive.insert_media(url)
            drive.refresh(force=True)
            image = drive.image
        if image != url:
            raise HostError(f"the BMC at {self._access.url} took {url} but shows {image or 'no disc'}")

    def eject(self) -> None:
        """Take the disc away, if there is one."""
        with self._asking("eject the disc"):
            drive = self._cd_drive()
            if drive.inserted:
                drive.eject_media()

    def _switch(self, reset: str, wanted: PowerState) -> None:
        from sushy import ResetType  # noqa: PLC0415 - slow to import

        with self._asking(f"switch the host {wanted.value.lower()}"):
            system = self._system()
            if _power_state(system) is wanted:
                return
            system.reset_system(ResetType[reset])
        deadline = self._clock() + self._deadline_s
        while self.power_state() is not wanted:
            if self._clock() > deadline:
                raise HostError(
                    f"the BMC at {self._access.url} did not switch the host {wanted.value.lower()}",
                    details=f"it accepted the request {self._deadline_s:.0f} s ago and still says otherwise",
                    resolution="look at the host's console and at the BMC's event log",
                )
            self._sleep(_POLL_S)

    def _system(self) -> Any:
        """Return the system as it is now, never as it was."""
        if self._known is None:
            self._known, self._log_out = self._connect(self._access)
        else:
            self._known.refresh(force=True)
        return self._known

    def _cd_drive(self) -> Any:
        from sushy import VirtualMediaType as Kind  # noqa: PLC0415 - slow to import

        wanted = {Kind.CD, Kind.DVD}
        for manager in self._system().managers:
            for drive in manager.virtual_media.get_members():
                if wanted & set(drive.media_types):
                    drive.refresh(force=True)
                    return drive
        raise HostError(
            f"the BMC at {self._access.url} has no virtual CD drive",
            resolution="take `redfish` out of the host's doors, or buy the BMC's media licence",
        )

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from requests import RequestException  # noqa: PLC0415 - slow to import
        from sushy.exceptions import AccessError, SushyError  # noqa: PLC0415

        try:
            yield
        except AccessError as error:
            raise HostError(
                f"the BMC at {self._access.url} refused to {what}: not logged in",
                resolution=f"check the user {self._access.username} and {self._access.password_file}",
            ) from error
        except (SushyError, RequestException) as error:
            raise HostError(
                f"the BMC at {self._access.url} could not {what}",
                details=redact(str(error)),
                resolution="check that the BMC is reachable and that the driver's `url` and `system` are right",
            ) from error


def connect_system(access: RedfishAccess) -> "tuple[sushy.resources.system.system.System, Callable[[], None]]":
    """Log in; return the system and what logs out. Raises sushy's errors, and `BadInput` when the password file cannot be read."""
    import sushy  # noqa: PLC0415 - slow to import

    try:
        password = access.password_file.read_text().strip()
    except OSError as error:
        raise BadInput(
            f"{access.password_file} cannot be read: {error.strerror}", resolution="put the BMC user's password there"
        ) from error
    register_secret(password)
    auth = sushy.auth.SessionOrBasicAuth(access.username, password)
    root = sushy.Sushy(
        access.url,
        auth=auth,
        verify=access.verify_tls,
        server_side_retries=3,
        server_side_retries_delay=2,
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
    )
    return root.get_system(access.system), auth.close


def _power_state(system: Any) -> PowerState:
    return _member(PowerState, system.power_state, PowerState.UNKNOWN)


def _member(kind: type[_Word], value: Any, default: _Word) -> _Word:
    # sushy gives None for what a BMC leaves out, and its own enum otherwise; ours has the members that are used.
    words = {member.value: member for member in kind}
    return default if value is None else words.get(value.value, default)
