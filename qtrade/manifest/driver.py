"""Drivers as a host manifest names them: whose API reaches the host, and which doors that API opens."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import Model, Name
from qtrade.manifest.secrets import SecretRef

HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]


class Door(StrEnum):
    """A way to get the agent running on a host."""

    IN_PLACE = "in_place"
    KEXEC = "kexec"
    RESCUE = "rescue"
    VIRTUAL_MEDIA = "virtual_media"
    UEFI_HTTP = "uefi_http"
    PXE = "pxe"
    IRONIC = "ironic"
    PROVIDER_IPXE = "provider_ipxe"
    PROVIDER_REINSTALL = "provider_reinstall"


class RedfishDriver(Model):
    """A BMC with Redfish. The password is read from a file that only its owner may read."""

    kind: Literal["redfish"]
    url: HttpUrl
    system: str
    username: str
    password_file: Path
    verify_tls: bool = True


class LatitudeDriver(Model):
    """A server at Latitude.sh."""

    kind: Literal["latitude"]
    server_id: str
    token: SecretRef
    url: HttpUrl = "https://api.latitude.sh"


class TeraswitchDriver(Model):
    """A server at TeraSwitch; `token` is `<id>:<secret>`. A reinstall repeats region and tier (their API requires both)."""

    kind: Literal["teraswitch"]
    server_id: int
    region_id: str
    tier_id: str
    token: SecretRef
    url: HttpUrl = "https://api.tsw.io"


class CherryDriver(Model):
    """A server at Cherry Servers."""

    kind: Literal["cherry"]
    server_id: int
    token: SecretRef
    url: HttpUrl = "https://api.cherryservers.com/v1"


class PhoenixnapDriver(Model):
    """A server at phoenixNAP's Bare Metal Cloud, by OAuth2 client credentials."""

    kind: Literal["phoenixnap"]
    server_id: str
    client_id: str
    client_secret: SecretRef
    url: HttpUrl = "https://api.phoenixnap.com/bmc/v1"
    auth_url: HttpUrl = "https://auth.phoenixnap.com/auth/realms/BMC/protocol/openid-connect/token"


class IronicEnrol(Model):
    """How Ironic reaches the host's BMC, for a host that it does not know yet; one that it knows keeps what it has.

    `hardware` is Ironic's hardware type; all but the last two are for those that speak Redfish.
    """

    address: HttpUrl | None = None
    system: str | None = None
    username: str | None = None
    password: SecretRef | None = None
    verify_tls: bool = True
    hardware: Name = "redfish"
    boot_interface: Name = "redfish-virtual-media"

    @model_validator(mode="after")
    def _reachable(self) -> "IronicEnrol":
        given = (self.address, self.system, self.username, self.password)
        if self.hardware in ("redfish", "idrac") and None in given:
            raise ValueError(f"hardware {self.hardware} needs address, system, username and password")
        return self


class IronicDriver(Model):
    """A node of OpenStack Ironic, by its name or UUID.

    `url` is of a standalone service (without a user, it asks for none; else HTTP basic); `cloud` names one of clouds.yaml, with
    Keystone, and `envvars` what the OS_ variables say.
    """

    kind: Literal["ironic"]
    node: str = Field(pattern=r"^[A-Za-z0-9._~-]+$")
    url: HttpUrl | None = None
    username: str | None = None
    password: SecretRef | None = None
    cloud: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]+$")
    enrol: IronicEnrol | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> "IronicDriver":
        if (self.url is None) == (self.cloud is None):
            raise ValueError("exactly one of url (standalone) and cloud (Keystone) is required")
        if (self.username is None) != (self.password is None) or (self.cloud is not None and self.username is not None):
            raise ValueError("username and password belong together, and to a url; with cloud, clouds.yaml has them")
        return self


class SshDriver(Model):
    """No API: what SSH can do is all there is."""

    kind: Literal["ssh"]


Driver = Annotated[
    RedfishDriver | LatitudeDriver | TeraswitchDriver | CherryDriver | PhoenixnapDriver | IronicDriver | SshDriver,
    Field(discriminator="kind"),
]

_BY_SSH = frozenset({Door.IN_PLACE, Door.KEXEC})
# What each API can do for a flash. With `ssh`, somebody else has booted the rescue system.
OPENS: dict[str, frozenset[Door]] = {
    "redfish": _BY_SSH | {Door.VIRTUAL_MEDIA, Door.UEFI_HTTP, Door.PXE},
    "latitude": _BY_SSH | {Door.RESCUE, Door.PROVIDER_IPXE, Door.PROVIDER_REINSTALL},
    "teraswitch": _BY_SSH | {Door.PROVIDER_IPXE, Door.PROVIDER_REINSTALL},
    "cherry": _BY_SSH | {Door.RESCUE, Door.PROVIDER_IPXE, Door.PROVIDER_REINSTALL},
    "phoenixnap": _BY_SSH | {Door.PROVIDER_IPXE},
    "ironic": _BY_SSH | {Door.IRONIC},
    "ssh": _BY_SSH | {Door.RESCUE},
}
_REINSTALLERS = ("latitude", "teraswitch", "cherry")


def wipes(kind: str, door: Door) -> bool:
    """Say whether a door of that driver makes the provider erase all disks: their iPXE boots are reinstalls, but for phoenixNAP's."""
    return door is Door.PROVIDER_REINSTALL or (door is Door.PROVIDER_IPXE and kind in _REINSTALLERS)
