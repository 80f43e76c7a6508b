"""A host: who runs an image, on which disks, behind which doors."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import HostRole, Model, Name
from qtrade.manifest.driver import OPENS, Door, Driver, wipes
from qtrade.manifest.promotion import HostBench


class DiskIdentity(Model):
    """What a disk is known by. `size_bytes` and `pci_path` tell disks apart together with another identifier."""

    serial: str | None = None
    wwid: str | None = None
    size_bytes: int | None = Field(default=None, gt=0)
    pci_path: str | None = None


class OsDisk(DiskIdentity):
    """The one disk that a flash may write. At least two identifiers, and exactly one disk must match all."""

    system_mib: int = Field(default=8192, ge=512)
    esp_mib: int = Field(default=128, ge=34)

    @model_validator(mode="after")
    def _two_identifiers(self) -> "OsDisk":
        given = [value for value in (self.serial, self.wwid, self.size_bytes, self.pci_path) if value is not None]
        if len(given) < 2:
            raise ValueError("at least two of serial, wwid, size_bytes, pci_path are required")
        return self


class ProtectedDisk(DiskIdentity):
    """A disk that nothing may ever write during a flash."""

    fs_uuid: str | None = None

    @model_validator(mode="after")
    def _known_by_something(self) -> "ProtectedDisk":
        if self.serial is None and self.wwid is None:
            raise ValueError("serial or wwid is required")
        return self


class DataDisk(ProtectedDisk):
    """A disk that the host's services write, and that a flash does not."""

    mount: str = Field(pattern=r"^/[A-Za-z0-9/_-]+$")


class Ssh(Model):
    """How to log in: for deploys as `user` with `identity_file`, for people as `operator`, with a key of their own if there is one.

    `host_key` is the host's own key, for machines that never saw the host; those that flashed it have it pinned.
    """

    port: int = Field(default=22, gt=0, lt=65536)
    user: Name = "deploy"
    operator: Name = "operator"
    identity_file: Path | None = None
    operator_identity_file: Path | None = None
    host_key: str | None = Field(default=None, pattern=r"^ssh-ed25519 [A-Za-z0-9+/=]+$")


class Dhcp(Model):
    """qtrade's own DHCP and TFTP server during a PXE flash. With `range` it gives addresses, else it answers beside the network's own.

    `subnet` (10.0.0.0) is the network beside whose server it answers (proxyDHCP).
    """

    interface: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,15}$")
    subnet: IPv4Address | None = None
    range: tuple[IPv4Address, IPv4Address] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Dhcp":
        if (self.subnet is None) == (self.range is None):
            raise ValueError("exactly one of subnet and range is required")
        return self


class Netboot(Model):
    """Where the netboot server listens during a flash, and how the host reaches it.

    `bmc_url` is how its BMC does, where that differs; `ip` is the installer's address as the kernel reads it (`ip=`); `dhcp` is for
    networks where nobody else tells hosts where to boot from.
    """

    listen: str = "127.0.0.1"
    port: int = Field(gt=0, lt=65536)
    url: str = Field(pattern=r"^http://")
    bmc_url: str | None = Field(default=None, pattern=r"^http://")
    mac: str = Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
    ip: str = Field(default="dhcp", pattern=r"^[A-Za-z0-9.:-]+$")
    trusted_network: bool = False
    dhcp: Dhcp | None = None


class Rescue(Model):
    """How to log in to a Linux that is not ours: the provider's rescue system, or what ran on the host before.

    Its SSH host key comes from the provider's API, or stands here, or is trusted when first seen.
    """

    user: str = "root"
    port: int = Field(default=22, gt=0, lt=65536)
    host_key: str | None = Field(default=None, pattern=r"^(ssh-|ecdsa-)[a-z0-9-]+ [A-Za-z0-9+/=]+$")
    trust_first_key: bool = False


class Host(Model):
    """One host manifest. Holds references to secrets, never secrets."""

    schema_version: Literal[1]
    name: Name
    environment: Literal["development", "staging", "production"]
    role: HostRole
    recipe: Name
    address: str
    ssh: Ssh = Ssh()
    driver: Driver
    hardware_class: Name = Field(
        default="standard", description="hosts of the same build have the same; each class has its canary"
    )
    doors: tuple[Door, ...] = Field(min_length=1)
    netboot: Netboot | None = None
    rescue: Rescue = Rescue()
    data_policy: Literal["keep", "disposable"] = "keep"
    os_disk: OsDisk
    protected_disks: tuple[ProtectedDisk, ...] = ()
    data_disks: tuple[DataDisk, ...] = ()
    console: Path | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description="where the serial console is written to, or the command (a list) that prints it"
    )
    cmdline: str = Field(default="", pattern=r"^[^\n]*$")
    bench: HostBench = HostBench()
    config: dict[str, Any] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "Host":
        for door in self.doors:
            self._check_door(door)
        for name in ("serial", "wwid"):
            kept = {getattr(disk, name) for disk in (*self.protected_disks, *self.data_disks)} - {None}
            if getattr(self.os_disk, name) in kept:
                raise ValueError(f"os_disk.{name} {getattr(self.os_disk, name)} is also a protected or data disk")
        return self

    def _check_door(self, door: Door) -> None:
        kind = self.driver.kind
        if door not in OPENS[kind]:
            raise ValueError(f"driver {kind} does not open door {door}; it opens {', '.join(sorted(OPENS[kind]))}")
        if door not in (Door.IN_PLACE, Door.RESCUE) and self.netboot is None:
            raise ValueError(f"door {door} needs netboot")
        if not wipes(kind, door):
            return
        if self.data_policy != "disposable":
            raise ValueError(f"through door {door}, {kind} erases all disks; it needs data_policy: disposable")
        if self.protected_disks:
            raise ValueError(
                f"through door {door}, {kind} erases all disks; a host with protected_disks cannot have it"
            )
