"""What a lab host boots from: pure functions, and the state that its BMC remembers across restarts."""

from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from flash.drivers import BootOverride, BootSource, OverrideEnabled
from flash.lab.facts import LabFacts, LabPaths, replace_file
from qtrade.machine.spec import (
    Cdrom,
    Disk,
    Firmware,
    MachineSpec,
    Nic,
    OnReset,
    PortForward,
    TapNetwork,
    UserNetwork,
)

# The card's iPXE takes a script, UEFI's HTTP boot takes iPXE, which then asks for autoexec.ipxe next to itself.
_BOOT_FILES = {Firmware.BIOS: "boot.ipxe", Firmware.UEFI: "ipxe.efi"}
_DEFAULT_ORDER = (BootSource.HDD, BootSource.PXE, BootSource.CD)


@dataclass(frozen=True)
class BoardState:
    """What the BMC remembers. `tap` is None for QEMU's own network; `medium_url` is None for an empty CD drive."""

    override: BootOverride = field(default_factory=BootOverride)
    medium_url: str | None = None
    tap: TapNetwork | None = None


_STATE = TypeAdapter(BoardState)


def load_state(paths: LabPaths) -> BoardState:
    """Read what the BMC remembered; a damaged file is as good as none."""
    try:
        return _STATE.validate_json(paths.board.read_bytes())
    except (FileNotFoundError, ValidationError):
        return BoardState()


def save_state(paths: LabPaths, state: BoardState) -> None:
    """Write what the BMC must remember."""
    replace_file(paths.board, _STATE.dump_json(state))


def boot_order(override: BootOverride) -> tuple[BootSource, ...]:
    """Return the order of this very start: the override's source, then the usual ones."""
    if not override.is_set:
        return _DEFAULT_ORDER
    first = BootSource.PXE if override.target is BootSource.UEFI_HTTP else override.target
    return (first, *(source for source in _DEFAULT_ORDER if source is not first))


def after_start(override: BootOverride) -> BootOverride:
    """Return the override that is left once a start has used it."""
    return BootOverride() if override.enabled is OverrideEnabled.ONCE else override


def build_spec(facts: LabFacts, paths: LabPaths, state: BoardState) -> MachineSpec:
    """Return the machine as it is to start now."""
    order = {source: number for number, source in enumerate(boot_order(state.override), start=1)}
    disks = (
        # Flushes to this machine's own disk would only cost time: what QEMU was given survives its being killed.
        Disk(paths.os_disk, facts.os_disk.serial, boot_index=order[BootSource.HDD], is_volatile=True),
        Disk(paths.ledger, facts.ledger.serial, is_volatile=True),
        Disk(paths.data, facts.data.serial, is_volatile=True),
    )
    return MachineSpec(
        name=facts.name,
        console=paths.console,
        memory_mib=facts.memory_mib,
        cpus=facts.cpus,
        firmware=facts.firmware,
        uefi_vars=paths.uefi_vars if facts.firmware is Firmware.UEFI else None,
        uuid=facts.uuid,
        serial=facts.name,
        disks=disks,
        nic=Nic(facts.mac, _network(facts, state), order[BootSource.PXE]),
        cdrom=Cdrom(paths.medium if state.medium_url else None, order[BootSource.CD]),
        on_reset=OnReset.PAUSE,
    )


def with_override(state: BoardState, override: BootOverride) -> BoardState:
    """Return `state` with another override."""
    return replace(state, override=override)


def _network(facts: LabFacts, state: BoardState) -> UserNetwork | TapNetwork:
    if state.tap is not None:
        return state.tap
    boot_file = f"{facts.guest_netboot_url}/{_BOOT_FILES[facts.firmware]}"
    if state.override.is_set and state.override.target is BootSource.UEFI_HTTP and state.override.http_boot_uri:
        boot_file = state.override.http_boot_uri
    return UserNetwork(forwards=(PortForward(facts.ports.ssh, 22),), boot_file=boot_file)
