"""A running QEMU: started from a description, watched over QMP, ended by its process id."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from qtrade import process
from qtrade.errors import ToolError
from qtrade.machine import pids
from qtrade.machine.accel import KVM, probe_accelerator
from qtrade.machine.argv import CD_DEVICE, QMP_SOCKET, build_argv
from qtrade.machine.console import Console
from qtrade.machine.qmp import QmpClient, QmpEvent, connect_qmp
from qtrade.machine.spec import MachineSpec, TapNetwork
from qtrade.settings import Settings
from qtrade.toolsroot import ToolsRoot

PROGRAM = "qemu-system-x86_64"
_PID_FILE = "qemu.pid"
_LOG_FILE = "qemu.log"
_LOG_TAIL_CHARS = 2000
_QUIT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Qemu:
    """QEMU of the tools root, and the accelerator that works here."""

    tools: ToolsRoot
    accelerator: tuple[str, ...]

    @property
    def has_kvm(self) -> bool:
        """Whether its guests run on the processor itself."""
        return self.accelerator == KVM

    @property
    def share(self) -> Path:
        """Where its firmware is."""
        return self.tools.root / "usr/share"


def find_qemu(settings: Settings, tools: ToolsRoot) -> Qemu:
    """Return QEMU with the quickest accelerator that works (probed once per boot of this machine)."""
    return Qemu(tools, probe_accelerator(tools, cache=settings.state_dir / "machine"))


class Machine:
    """A QEMU that was started by `start_machine` in `folder`."""

    def __init__(self, spec: MachineSpec, folder: Path, child: subprocess.Popen[bytes], qmp: QmpClient) -> None:
        self.spec = spec
        self.folder = folder
        self.console = Console(spec.console)
        self.qmp = qmp
        self._child = child

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._child.pid

    def is_running(self) -> bool:
        """Say whether the process exists. It may be paused."""
        return self._child.poll() is None

    def wait(self, timeout_s: float) -> bool:
        """Wait for QEMU to end; return whether it did."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout_s)
        return not self.is_running()

    def press_power_button(self) -> None:
        """Ask the guest to shut down (ACPI). It may ignore that."""
        self.qmp.execute("system_powerdown")

    def change_medium(self, path: Path | None) -> None:
        """Put another disc into the CD drive while the machine runs, or none."""
        self.qmp.execute("eject", {"id": CD_DEVICE, "force": True})
        if path is not None:
            arguments = {"id": CD_DEVICE, "filename": str(path), "format": "raw", "read-only-mode": "read-only"}
            self.qmp.execute("blockdev-change-medium", arguments)

    def reset(self) -> None:
        """Reset at once, as the front panel's button does."""
        self.qmp.execute("system_reset")

    def kill(self) -> None:
        """Cut the power: QEMU is killed, with whatever the guest had not written yet."""
        if self.is_running():
            self._child.send_signal(signal.SIGKILL)
        self._finish()

    def stop(self) -> None:
        """Switch off at once, but let QEMU write its own caches."""
        with suppress(ToolError):
            self.qmp.execute("quit")
        if not self.wait(_QUIT_TIMEOUT_S):
            self._child.send_signal(signal.SIGKILL)
        self._finish()

    def _finish(self) -> None:
        self._child.wait()
        self.qmp.close()
        (self.folder / _PID_FILE).unlink(missing_ok=True)


def start_machine(
    spec: MachineSpec,
    qemu: Qemu,
    folder: Path,
    *,
    on_event: Callable[[QmpEvent | None], None] = lambda _: None,
    dies_with_thread: bool = True,
) -> Machine:
    """Start QEMU with its socket, process id and log in `folder`, after removing one that was left there.

    QMP events go to `on_event`, in a thread of its own; None says that QEMU is gone. With `dies_with_thread` the kernel
    kills QEMU when the calling thread ends, for whatever reason, so call from one that lives long enough.
    Raises `ToolError` when QEMU does not start, `BadInput` when the description does not fit together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_stale_machine(folder)
    (folder / QMP_SOCKET).unlink(missing_ok=True)
    argv = _wrap(spec, qemu, folder, dies_with_thread=dies_with_thread)
    log = folder / _LOG_FILE
    log_start = log.stat().st_size if log.exists() else 0
    modules = qemu.tools.root / "usr/lib/x86_64-linux-gnu/qemu"
    child = process.spawn(argv, log=log, env={"QEMU_MODULE_DIR": str(modules)})
    (folder / _PID_FILE).write_text(f"{child.pid}\n")
    try:
        qmp = connect_qmp(folder / QMP_SOCKET, on_event, is_alive=lambda: child.poll() is None)
    except ToolError as error:
        child.kill()
        child.wait()
        (folder / _PID_FILE).unlink(missing_ok=True)
        said = log.read_bytes()[log_start:].decode(errors="replace")
        raise ToolError(f"machine {spec.name} did not start", details=said[-_LOG_TAIL_CHARS:]) from error
    return Machine(spec, folder, child, qmp)


@contextmanager
def running_machine(spec: MachineSpec, qemu: Qemu, folder: Path) -> Iterator[Machine]:
    """Start a machine for the length of a `with` block, and cut its power at the end."""
    machine = start_machine(spec, qemu, folder)
    try:
        yield machine
    finally:
        machine.kill()


def remove_stale_machine(folder: Path) -> list[int]:
    """End every QEMU that was started in `folder`, also one whose pid file was lost. Return the ids that were found."""
    marks = (PROGRAM, f"{folder}/")
    (folder / _PID_FILE).unlink(missing_ok=True)
    return [pid for pid in pids.find_processes(marks) if pids.end_process(pid, marks, sign=signal.SIGKILL)]


def read_pid(folder: Path) -> int | None:
    """Return the id of the QEMU that runs in `folder`, or None."""
    try:
        pid = int((folder / _PID_FILE).read_text())
    except (OSError, ValueError):
        return None
    return pid if pids.is_ours(pid, (PROGRAM, f"{folder}/")) else None


def _wrap(spec: MachineSpec, qemu: Qemu, folder: Path, *, dies_with_thread: bool) -> list[str]:
    argv = qemu.tools.argv(PROGRAM, *build_argv(spec, accelerator=qemu.accelerator, share=qemu.share))
    network = spec.nic.network if spec.nic else None
    if isinstance(network, TapNetwork) and network.netns:
        argv = ["ip", "netns", "exec", network.netns, *argv]
    # Each of these replaces itself by the next, so that the process id is QEMU's.
    argv = qemu.tools.argv("env", "--chdir", folder, *argv)
    return qemu.tools.argv("setpriv", "--pdeathsig", "KILL", "--", *argv) if dies_with_thread else argv
