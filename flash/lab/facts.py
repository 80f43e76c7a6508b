"""What a lab host is: its fixed facts (`lab.json`) and where its files are."""

import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from qtrade.errors import BadInput, NotFound
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_NAMESPACE = uuid.UUID("6f1d0a6e-6c0e-5f0e-9d0c-71747261646c")
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class LabDisk:
    """A disk of a lab host. `fs_uuid` is of the ext4 that it was made with."""

    serial: str
    size_bytes: int
    fs_uuid: str | None = None


@dataclass(frozen=True)
class LabPorts:
    """TCP ports of 127.0.0.1. `ssh` leads to the guest; `netboot` is where the guest finds a netboot server."""

    ssh: int
    bmc: int
    netboot: int


@dataclass(frozen=True)
class LabFacts:
    """What stays the same while the lab host exists."""

    name: str
    firmware: Firmware
    memory_mib: int
    cpus: int
    uuid: str
    mac: str
    ports: LabPorts
    os_disk: LabDisk
    ledger: LabDisk
    data: LabDisk
    bmc_user: str = "admin"
    schema_version: int = 1

    @property
    def guest_netboot_url(self) -> str:
        """Where the guest finds the netboot server."""
        return f"http://10.0.2.2:{self.ports.netboot}"


@dataclass(frozen=True)
class LabPaths:
    """The files of a lab host; everything is below `folder`."""

    folder: Path

    @property
    def facts(self) -> Path:
        """The facts, as JSON."""
        return self.folder / "lab.json"

    @property
    def board(self) -> Path:
        """What the BMC remembers, as JSON."""
        return self.folder / "board.json"

    @property
    def password(self) -> Path:
        """The BMC user's password; mode 600."""
        return self.folder / "bmc-password"

    @property
    def manifest(self) -> Path:
        """The host manifest that `qtrade flash` reads."""
        return self.folder / "host.yaml"

    @property
    def console(self) -> Path:
        """The serial console's log."""
        return self.folder / "console.log"

    @property
    def bmc_log(self) -> Path:
        """What the BMC process says."""
        return self.folder / "bmc.log"

    @property
    def bmc_pid(self) -> Path:
        """The BMC's process id."""
        return self.folder / "bmc.pid"

    @property
    def os_disk(self) -> Path:
        """The disk that is flashed."""
        return self.folder / "os.raw"

    @property
    def ledger(self) -> Path:
        """The protected disk."""
        return self.folder / "ledger.raw"

    @property
    def data(self) -> Path:
        """The data disk."""
        return self.folder / "data.raw"

    @property
    def uefi_vars(self) -> Path:
        """The machine's own copy of the UEFI variables."""
        return self.folder / "vars.fd"

    @property
    def medium(self) -> Path:
        """The disc in the virtual CD drive."""
        return self.folder / "medium.iso"


_FACTS = TypeAdapter(LabFacts)


def lab_paths(settings: Settings, name: str) -> LabPaths:
    """Return where lab host `name` is. Raises `BadInput` for a name that cannot be a host's."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} cannot be the name of a lab host", resolution="use small letters, digits and hyphens")
    return LabPaths(settings.state_dir.absolute() / "lab" / name)


def load_facts(paths: LabPaths) -> LabFacts:
    """Read the facts. Raises `NotFound` when there is no such lab host, `BadInput` when the file is damaged."""
    if not paths.facts.is_file():
        raise NotFound(f"there is no lab host {paths.folder.name}", resolution="run `qtrade lab up`")
    try:
        return _FACTS.validate_json(paths.facts.read_bytes())
    except ValidationError as error:
        raise BadInput(
            f"{paths.facts} is damaged",
            details=str(error),
            resolution="run `qtrade lab down --wipe` and `qtrade lab up`",
        ) from error


def save_facts(paths: LabPaths, facts: LabFacts) -> None:
    """Write the facts, whole or not at all."""
    replace_file(paths.facts, _FACTS.dump_json(facts, indent=2) + b"\n")


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that readers see the old or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=mode)
    fresh.write_bytes(content)
    fresh.replace(path)


def new_facts(name: str, *, firmware: Firmware, memory_mib: int, cpus: int, ports: LabPorts) -> LabFacts:
    """Return the facts of a lab host that does not exist yet. Its ids depend on the name only."""
    digits = re.search(r"\d+$", name)
    number = int(digits.group()) if digits else 0
    identity = uuid.uuid5(_NAMESPACE, name)
    return LabFacts(
        name=name,
        firmware=firmware,
        memory_mib=memory_mib,
        cpus=cpus,
        uuid=str(identity),
        mac="52:54:00:" + identity.bytes[:3].hex(":"),
        ports=ports,
        os_disk=LabDisk(f"QTOS{number:02}", 6 * GIB),
        ledger=LabDisk(f"QTLEDGER{number}", 64 * MIB, str(uuid.uuid5(identity, "ledger"))),
        data=LabDisk(f"QTDATA{number}", 2 * GIB, str(uuid.uuid5(identity, "data"))),
    )
