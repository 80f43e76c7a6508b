"""What was found of a machine."""

from dataclasses import dataclass

_GB = 10**9


@dataclass(frozen=True)
class FoundPartition:
    """A partition, or a filesystem over a whole disk. What nobody could tell is empty."""

    name: str
    size_bytes: int = 0
    filesystem: str = ""
    label: str = ""
    uuid: str = ""
    mount: str = ""

    def describe(self) -> str:
        """Return a few words for people."""
        told = (self.filesystem, self.label, f"{self.size_bytes / _GB:.1f} GB" if self.size_bytes else "")
        where = f" on {self.mount}" if self.mount else ""
        return f"{self.name} {' '.join(filter(None, told))}{where}".rstrip()


@dataclass(frozen=True)
class FoundDisk:
    """A disk. Identifiers are those that the agent compares (`flash.agent.disks`), empty where there is none.

    `knows_partitions` is false where nobody could look: a BMC sees no partitions.
    """

    name: str
    model: str = ""
    serial: str = ""
    wwid: str = ""
    size_bytes: int = 0
    pci_path: str = ""
    partitions: tuple[FoundPartition, ...] = ()
    knows_partitions: bool = True

    def describe(self) -> str:
        """Return one line that tells a person which disk this is, and what is on it."""
        ids = f"serial {self.serial or '-'}, wwid {self.wwid or '-'}, {self.pci_path or 'no PCI path'}"
        held = "; ".join(one.describe() for one in self.partitions) or "nothing known on it"
        if not self.knows_partitions:
            held = "partitions unknown"
        return f"{self.name}  {self.model or 'no model'}  {self.size_bytes / _GB:.1f} GB  {ids}  [{held}]"

    @property
    def is_in_use(self) -> bool:
        """Whether something of it is mounted."""
        return any(one.mount for one in self.partitions)

    @property
    def fs_uuid(self) -> str:
        """Return the UUID of its one filesystem, empty where there is none or more than one."""
        uuids = [one.uuid for one in self.partitions if one.uuid]
        return uuids[0] if len(uuids) == 1 else ""


@dataclass(frozen=True)
class FoundNic:
    """A network card. `is_up` says that it has a link, as far as somebody could tell."""

    name: str
    mac: str
    is_up: bool = False


@dataclass(frozen=True)
class FoundNetwork:
    """How the card with the way out is set up now. `addresses` have prefix lengths; they are empty where DHCP gave them."""

    mac: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """All of it. `source` is ssh or redfish; `host_key` (`ssh-ed25519 AAAA…`) is what its SSH server showed, empty over Redfish."""

    source: str
    disks: tuple[FoundDisk, ...]
    nics: tuple[FoundNic, ...]
    host_key: str = ""
    firmware: str = ""
    system: str = ""
    network: FoundNetwork = FoundNetwork()

    @property
    def mac(self) -> str:
        """Return the MAC of the card that has the addresses, else of the first with a link; empty where no card is known."""
        return self.network.mac or next((nic.mac for nic in sorted(self.nics, key=lambda nic: not nic.is_up)), "")
