"""Boot an image in QEMU, from a whole disk through GRUB, and run the roles' specs on it.

The image is the published one, byte for byte: what lets the test in (an SSH key, the network of the test) is on the state partition of a
disk that is made for the test and thrown away. See docs/adr/0007-boot-test.md.
"""

import fcntl
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bake.ids import Ids
from bake.output.disk import MIB, DiskLayout, GuestConfig, build_disk
from bake.output.ext4 import Entry
from qtrade import process
from qtrade.errors import BadInput, ConflictError, HostError, QtradeError
from qtrade.machine.argv import GATEWAY, GATEWAY_V6, GUEST_ADDRESS, GUEST_ADDRESS_V6, PREFIX_V6
from qtrade.machine.machine import Machine, find_qemu, running_machine
from qtrade.machine.spec import Disk, Firmware, MachineSpec, Nic, PortForward, UserNetwork
from qtrade.manifest import Image, load_manifest
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.signing import STATEMENT_TYPE
from qtrade.specs import Mark, SpecResult
from qtrade.specs.remote import run_over_ssh
from qtrade.ssh import SshTarget
from qtrade.store import Store
from qtrade.toolsroot import ToolsRoot, open_tools
from qtrade.trust.images import load_trusted
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.statements import BOOT, TEST, statement

_HOST = "boot-test"
_USER = "operator"
_MAC = "52:54:00:71:74:62"
_SSH_KEYS = "bare_metal_ssh_keys"
_NETWORK = ["10.0.2.0/24", f"{PREFIX_V6}/64"]
_MEMORY_MIB = 2048
# Without KVM a boot takes about a minute, on a busy machine several.
_BOOT_TIMEOUT_S = 600.0
_SETTLE_TIMEOUT_S = 600.0
_TAIL_CHARS = 3000


@dataclass(frozen=True)
class BootTest:
    """A boot test that was made: the predicate, and the signed envelope of the statement about the image."""

    image_id: str
    predicate: dict[str, Any]
    envelope: dict[str, Any]


def boot_test(
    settings: Settings,
    store: Store,
    recipe: str,
    version: str,
    reporter: Reporter,
    *,
    firmware: Firmware = Firmware.BIOS,
) -> BootTest:
    """Boot a published version, run the specs with mark `booted` on it, and attest what came of it. Needs no root.

    An image that fails is attested too, so that one that passed once does not count as tested for ever.

    Raises `HostError` with failed specs or the end of the console when the image fails, `BadInput` when it does not let anybody log
    in by SSH, `ConflictError` when another boot test runs in the state directory. Whatever ends this process ends the machine.
    """
    tools = open_tools(settings)
    keyring = ensure_keyring(settings)
    published = store.read(recipe, version)
    image = load_trusted(published, recipe, version, keyring.trust).image
    qemu = find_qemu(settings, tools)
    with _work_folder(settings) as folder:
        config = _make_config(settings, image, folder)
        disk_folder = folder / "disk"
        disk_folder.mkdir()
        with reporter.step("disk of the boot test"):
            layout = DiskLayout(esp_mib=64, system_mib=_system_mib(image), state_mib=1024)
            disk = build_disk(
                tools, store, published, keyring.trust.builders(), disk_folder, layout=layout, config=config
            )
        port = _free_port()
        spec = _make_spec(tools, folder, disk.path, firmware, port)
        target = _make_target(folder, port)
        with running_machine(spec, qemu, folder / "machine") as machine:
            version_of = machine.qmp.execute("query-version")
            found = _look_at(machine, lambda: _boot(settings, machine, target, image, folder, reporter))
    predicate = {
        "kind": BOOT,
        "passed": found.problem is None,
        "ran": found.ran,
        "failures": list(found.failures),
        "accel": "kvm" if "kvm" in qemu.accelerator else "tcg",
        "qemu": _qemu_version(version_of),
        "firmware": firmware.value,
        # A statement like an earlier one would not count as the newer one.
        "time": int(time.time()),
    }
    envelope = keyring.signer("build").envelope(STATEMENT_TYPE, statement(image.id, TEST, predicate))
    store.attest(image.id, envelope)
    if found.problem:
        raise found.problem
    return BootTest(image.id, predicate, envelope)


@dataclass(frozen=True)
class _Found:
    """What a boot showed: how many specs ran, one line on each failure, and the error of an image that fails."""

    ran: int
    failures: tuple[str, ...] = ()
    problem: HostError | None = None


def _boot(
    settings: Settings, machine: Machine, target: SshTarget, image: Image, folder: Path, reporter: Reporter
) -> SpecResult:
    with reporter.step(f"boot ({machine.spec.firmware})"):
        _wait_for_boot(machine, target, image.id)
    with reporter.step("specs on the booted image"):
        return _run_specs(settings, target, image, folder)


def _look_at(machine: Machine, boot: Callable[[], SpecResult]) -> _Found:
    """Return what `boot` showed of the image. Raises what says nothing of it, such as `ToolError` for specs that cannot run."""
    try:
        result = boot()
    except HostError as error:
        return _Found(0, (error.brief,), _with_console(error, machine))
    except QtradeError as error:
        raise _with_console(error, machine) from error
    failures = tuple(f"{role}: {test}: {message[:400]}" for role, test, message in result.failures)
    if not failures:
        return _Found(result.ran)
    problem = HostError(
        f"{len(failures)} of {result.ran} specs fail on the booted image",
        details="\n".join(f"  {line}" for line in failures),
        resolution="mend the role, or its spec where the spec is wrong, and bake again",
    )
    return _Found(result.ran, failures, problem)


@contextmanager
def _work_folder(settings: Settings) -> Iterator[Path]:
    """Give an empty folder that this process holds; what a killed boot test left in it is removed, the folder too at the end."""
    folder = settings.state_dir / "boot-test"
    folder.mkdir(parents=True, exist_ok=True)
    with (settings.state_dir / "boot-test.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"another boot test runs in {folder}", resolution="wait for it, or set QTRADE_STATE_DIR"
            ) from error
        try:
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _make_config(settings: Settings, image: Image, folder: Path) -> GuestConfig:
    """Make the throwaway keys and the config of the test's host."""
    for name in ("host_key", "user_key"):
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", _HOST, "-f", folder / name])
    public_key = (folder / "user_key.pub").read_text().strip()
    values: dict[str, Any] = {
        # No data disk: what needs one waits, as on a host whose disk is missing.
        "bare_metal_mounts": [],
        "bare_metal_mac": _MAC,
        "bare_metal_addresses": [f"{GUEST_ADDRESS}/24", f"{GUEST_ADDRESS_V6}/64"],
        "bare_metal_gateways": [GATEWAY, GATEWAY_V6],
        _SSH_KEYS: {_USER: [public_key]},
        "ufw_solana_ssh_sources": _NETWORK,
        "ufw_solana_egress_allow": _NETWORK,
    }
    declared = {name for inputs in image.inputs.values() for name in inputs.values}
    if _SSH_KEYS not in declared:
        raise BadInput(
            f"{image.name} {image.version} cannot be boot-tested: nobody can log in",
            details=f"no role of it declares the value {_SSH_KEYS}",
            resolution="bake it with the role bare_metal",
        )
    ids = load_manifest(Ids, settings.find("manifests/ids.yaml"))
    host_key = folder / "host_key"
    return GuestConfig(
        _HOST,
        {name: value for name, value in values.items() if name in declared},
        {"root": 0, **{user.name: user.uid for user in ids.users}},
        {"root": 0, **{group.name: group.gid for group in ids.groups}},
        (
            Entry("host/ssh_host_ed25519_key", host_key, mode=0o600),
            Entry("host/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub")),
        ),
    )


def _make_target(folder: Path, port: int) -> SshTarget:
    known_hosts = folder / "known_hosts"
    kind, public_key = (folder / "host_key.pub").read_text().split()[:2]
    known_hosts.write_text(f"{_HOST} {kind} {public_key}\n")
    return SshTarget(_HOST, "127.0.0.1", port, _USER, folder / "user_key", known_hosts)


def _make_spec(tools: ToolsRoot, folder: Path, disk: Path, firmware: Firmware, port: int) -> MachineSpec:
    uefi_vars = None
    if firmware is Firmware.UEFI:
        uefi_vars = folder / "uefi_vars.fd"
        shutil.copyfile(tools.root / "usr/share/OVMF/OVMF_VARS_4M.fd", uefi_vars)
    return MachineSpec(
        name=_HOST,
        console=folder / "console.log",
        memory_mib=_MEMORY_MIB,
        firmware=firmware,
        uefi_vars=uefi_vars,
        disks=(Disk(disk, _HOST, boot_index=1, is_volatile=True),),
        nic=Nic(_MAC, UserNetwork(forwards=(PortForward(port, 22),))),
    )


def _wait_for_boot(machine: Machine, target: SshTarget, image_id: str) -> None:
    machine.console.wait_for(
        r"login:", fails=r"qtrade: FAIL|Kernel panic", timeout_s=_BOOT_TIMEOUT_S, is_alive=machine.is_running
    )
    deadline = time.monotonic() + _SETTLE_TIMEOUT_S
    while (state := _read_state(target)) not in ("running", "degraded"):
        if time.monotonic() > deadline or not machine.is_running():
            raise HostError(f"the booted image does not settle: its system is {state}")
        time.sleep(2)
    facts = dict(line.split("=", 1) for line in target.run("cat /run/qtrade/boot").stdout.splitlines() if "=" in line)
    if facts.get("image") != image_id or facts.get("state") != "persistent":
        raise HostError(f"another image than {image_id} was booted, or not from its disk", details=str(facts))
    if state != "running":
        failed = target.run("systemctl list-units --failed --plain --no-legend", check=False).stdout
        raise HostError(f"the booted image is {state}", details=failed)


def _read_state(target: SshTarget) -> str:
    try:
        return target.run("systemctl is-system-running", check=False, timeout_s=60).stdout.strip() or "unknown"
    except HostError as error:
        return f"not reached ({error.details or error.brief})"


def _run_specs(settings: Settings, target: SshTarget, image: Image, folder: Path) -> SpecResult:
    roles = tuple(layer.role for layer in image.layers[1:])
    return run_over_ssh(settings, target, roles, (Mark.BOOTED,), folder / "specs")


def _with_console(error: QtradeError, machine: Machine) -> HostError:
    tail = machine.console.read()[-_TAIL_CHARS:]
    return HostError(
        f"the boot test failed: {error.brief}",
        details=f"{error.details}\n--- the end of the console:\n{tail}",
        resolution=error.resolution or "mend the role or the recipe, and bake again",
    )


def _system_mib(image: Image) -> int:
    return max(1024, 3 * sum(image.blobs().values()) // MIB)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _qemu_version(answer: object) -> str:
    numbers = answer["qemu"] if isinstance(answer, dict) else {}
    return ".".join(str(numbers[part]) for part in ("major", "minor", "micro"))
