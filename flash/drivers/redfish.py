"""Redfish BMCs, through sushy, which knows most of the vendors' differences.

Rules of ours on top: what was set is read back, a power state counts only once its change was seen, and what sushy leaves to
its callers is done here (an override that a BMC calls by another name, keeps as pending, or does not let go).
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
    """Power, boot override, virtual media and HTTP boot of one system. Connects at the first call; a context manager logs out.

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
        return self._kept(BootOverride(source, OverrideEnabled.ONCE))

    def boot_http_once(self, url: str) -> BootOverride:
        """Make the firmware fetch `url` at the next boot; return the override as it was read back.

        Raises `HostError` where the BMC cannot take a URL: Dell's have no Boot.HttpBootUri but a BIOS attribute, HttpDev1Uri,
        which needs a BIOS configuration job (and is read-only on some), and the lists of others lack UefiHttp.
        """
        from sushy import BootSource as Source  # noqa: PLC0415 - slow to import
        from sushy import BootSourceOverrideEnabled as Enabled  # noqa: PLC0415
        from sushy import BootSourceOverrideMode as Mode  # noqa: PLC0415
        from sushy.exceptions import InvalidParameterValueError, MissingAttributeError  # noqa: PLC0415

        with self._asking(f"make the next boot fetch {url}"):
            system = self._system()
            try:
                system.set_system_boot_options(Source.UEFI_HTTP, Enabled.ONCE, Mode.UEFI, http_boot_uri=url)
            except (InvalidParameterValueError, MissingAttributeError) as error:
                raise HostError(
                    f"the BMC at {self._access.url} ({system.manufacturer or 'unknown maker'}) cannot be told what to boot by HTTP",
                    details=redact(str(error)),
                    resolution="take `uefi_http` out of the host's doors; `virtual_media` and `pxe` do without",
                ) from error
        return self._kept(BootOverride(BootSource.UEFI_HTTP, OverrideEnabled.ONCE, url))

    def boot_override(self) -> BootOverride:
        """Read the override that the next boot will use; some BMCs keep it in @Redfish.Settings until then."""
        with self._asking("read the boot override"):
            system = self._system()
            return _pending_override(system) or _override(system.boot)

    def clear_boot_override(self) -> None:
        """Take the override back, and check that it is gone. On BMCs that know no way back, it is set to the disk."""
        from sushy import BootSource as Source  # noqa: PLC0415 - slow to import
        from sushy import BootSourceOverrideEnabled as Enabled  # noqa: PLC0415

        if not self._leads_elsewhere():
            return
        with suppress(HostError), self._asking("clear the boot override"):
            self._system().set_system_boot_options(enabled=Enabled.DISABLED)
        if not self._leads_elsewhere():
            return
        with self._asking("clear the boot override"):
            self._system().set_system_boot_options(Source.HDD, Enabled.ONCE)
        if self._leads_elsewhere():
            raise HostError(
                f"the BMC at {self._access.url} keeps its boot override",
                resolution="clear the one-time boot option in the BMC's own interface before the host boots again",
            )

    def insert(self, url: str) -> None:
        """Show the image at `url` as a CD, in place of what was there, and check that it is in."""
        with self._asking(f"insert {url}"):
            drive = self._cd_drive()
            if drive.inserted or drive.image:
                drive.eject_media()
            drive.insert_media(url)
            drive.refresh(force=True)
            image, name = drive.image, drive.image_name
        # Some show the path or the file's name only.
        if not image and not name:
            raise HostError(f"the BMC at {self._access.url} took {url} but shows no disc")
        if not url.endswith(image or name):
            raise HostError(f"the BMC at {self._access.url} took {url} but shows {image or name}")

    def eject(self) -> None:
        """Take the disc away, if there is one, and check that it is gone."""
        with self._asking("eject the disc"):
            drive = self._cd_drive()
            # Supermicro's leave `Inserted` out.
            if not (drive.inserted or drive.image):
                return
            drive.eject_media()
            drive.refresh(force=True)
        if drive.inserted:
            raise HostError(
                f"the BMC at {self._access.url} keeps the disc in",
                resolution="eject it in the BMC's own interface before the host boots again",
            )

    def _kept(self, wanted: BootOverride) -> BootOverride:
        override = self.boot_override()
        is_url_kept = wanted.http_boot_uri is None or override.http_boot_uri == wanted.http_boot_uri
        if override.target is not wanted.target or not override.is_set or not is_url_kept:
            raise HostError(
                f"the BMC at {self._access.url} took the boot override {wanted.target} but did not keep it",
                details=f"it says {override.target}, {override.enabled}, {override.http_boot_uri or 'no URL'}",
                resolution="use another door for this host, such as pxe, and report the BMC's firmware to its vendor",
            )
        return override

    def _leads_elsewhere(self) -> bool:
        override = self.boot_override()
        return override.is_set and override.target is not BootSource.HDD

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
        for drive in _drives(self._system()):
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
    root, log_out = connect_root(access)
    return root.get_system(access.system), log_out


def connect_root(access: RedfishAccess) -> "tuple[sushy.Sushy, Callable[[], None]]":
    """Log in; return what the BMC has of all systems, and what logs out. Raises as `connect_system`."""
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
    return root, auth.close


def _power_state(system: Any) -> PowerState:
    return _member(PowerState, system.power_state, PowerState.UNKNOWN)


def _drives(system: Any) -> Iterator[Any]:
    """Give the virtual drives: the managers' first, then the system's own, where newer BMCs have them."""
    from sushy.exceptions import MissingAttributeError  # noqa: PLC0415 - slow to import

    for owner in (*system.managers, system):
        try:
            yield from owner.virtual_media.get_members()
        except MissingAttributeError:
            continue


def _pending_override(system: Any) -> BootOverride | None:
    """Return what @Redfish.Settings says of the next boot, None where it says nothing."""
    settings = (system.json.get("@Redfish.Settings") or {}).get("SettingsObject") or {}
    if "@odata.id" not in settings:
        return None
    boot = system._conn.get(settings["@odata.id"]).json().get("Boot") or {}  # noqa: SLF001 - sushy shows it nowhere
    override = _override_of(
        boot.get("BootSourceOverrideTarget"), boot.get("BootSourceOverrideEnabled"), boot.get("HttpBootUri")
    )
    return override if override.is_set else None


def _override(boot: Any) -> BootOverride:
    if boot is None:
        return BootOverride()
    return _override_of(boot.target and boot.target.value, boot.enabled and boot.enabled.value, boot.http_boot_uri)


def _override_of(target: str | None, enabled: str | None, uri: str | None) -> BootOverride:
    # Supermicro boots virtual media by UsbCd; sushy sets that where Cd was asked for.
    source = BootSource.CD if target == "UsbCd" else _word(BootSource, target, BootSource.NONE)
    return BootOverride(source, _word(OverrideEnabled, enabled, OverrideEnabled.DISABLED), uri)


def _member(kind: type[_Word], value: Any, default: _Word) -> _Word:
    # sushy gives None for what a BMC leaves out, and its own enum otherwise; ours has the members that are used.
    return default if value is None else _word(kind, value.value, default)


def _word(kind: type[_Word], value: str | None, default: _Word) -> _Word:
    words = {member.value: member for member in kind}
    return default if value is None else words.get(value, default)
