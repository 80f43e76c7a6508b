"""A lab host from the outside: made, shown, unplugged and taken down."""

import os
import secrets
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from flash.lab.disks import make_disks
from flash.lab.facts import (
    LabFacts,
    LabPaths,
    LabPorts,
    lab_paths,
    load_facts,
    new_facts,
    replace_file,
    save_facts,
)
from flash.lab.manifest import write_manifest
from flash.lab.resources import system_path
from qtrade import process
from qtrade.errors import ConflictError
from qtrade.machine import pids
from qtrade.machine.console import Console
from qtrade.machine.machine import read_pid, remove_stale_machine
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.leases import Leases
from qtrade.toolsroot import ToolsRoot

_MODULE = "flash.lab.bmc"
_PORTS_TIMEOUT_S = 10.0
_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BmcAccess:
    """How to reach the lab's BMC; satisfies `flash.drivers.RedfishAccess`."""

    url: str
    system: str
    username: str
    password_file: Path
    verify_tls: bool = True


@dataclass(frozen=True)
class LabHost:
    """A lab host: its facts and files. The BMC may or may not run."""

    facts: LabFacts
    paths: LabPaths

    @property
    def access(self) -> BmcAccess:
        """How to reach its BMC."""
        url = f"http://127.0.0.1:{self.facts.ports.bmc}"
        return BmcAccess(url, system_path(self.facts), self.facts.bmc_user, self.paths.password)

    @property
    def console(self) -> Console:
        """Its serial console."""
        return Console(self.paths.console)


@dataclass(frozen=True)
class LabStatus:
    """What runs of a lab host. `qemu_pid` is None when the host is off."""

    host: LabHost
    bmc_pid: int | None
    qemu_pid: int | None

    @property
    def is_up(self) -> bool:
        """Whether its BMC answers."""
        return self.bmc_pid is not None


def up(
    settings: Settings,
    tools: ToolsRoot,
    name: str = "lab-1",
    *,
    firmware: Firmware = Firmware.BIOS,
    memory_mib: int = 2048,
    owner_pid: int | None = None,
) -> LabHost:
    """Make lab host `name` and start its BMC; the host stays off. One that is up already is left as it is.

    The BMC outlives this process, unless `owner_pid` is given: it then ends with that process. Disks of an earlier time
    are kept. Raises `ConflictError` when the host exists with another firmware, `ToolError` when a program fails.
    """
    paths = lab_paths(settings, name)
    paths.folder.mkdir(parents=True, exist_ok=True)
    if paths.facts.is_file():
        facts = load_facts(paths)
        if facts.firmware is not firmware:
            raise ConflictError(
                f"lab host {name} has {facts.firmware} firmware, not {firmware}",
                resolution="run `qtrade lab down --wipe` first",
            )
    else:
        facts = new_facts(name, firmware=firmware, memory_mib=memory_mib, cpus=_cpus(), ports=_free_ports())
    if _bmc_pid(paths) is not None and facts.memory_mib == memory_mib:
        return LabHost(facts, paths)
    _end_processes(paths)
    facts = replace(facts, memory_mib=memory_mib, ports=_still_free(facts.ports))
    host = LabHost(facts, paths)
    save_facts(paths, facts)
    if not paths.password.exists():
        replace_file(paths.password, secrets.token_urlsafe(24).encode(), mode=0o600)
    make_disks(paths, facts, tools)
    write_manifest(facts, paths)
    _start_bmc(settings, tools, paths, owner_pid=owner_pid)
    return host


def down(settings: Settings, name: str = "lab-1", *, wipe: bool = False) -> None:
    """End everything that runs of a lab host, whatever state it is in; with `wipe`, delete its disks and facts too."""
    paths = lab_paths(settings, name)
    _end_processes(paths)
    if wipe and paths.folder.exists():
        shutil.rmtree(paths.folder)
    if wipe:
        _end_quarantine(settings, name)


def _end_quarantine(settings: Settings, name: str) -> None:
    """Let the next host of this name be flashed: the one that was in quarantine is gone."""
    leases = Leases(open_store(settings).objects)
    left = leases.read(name)
    if left is not None and left.quarantine:
        leases.release(leases.take(name, holder=left.holder, pid=os.getpid(), where=left.where, clears=True)[0])


def status(settings: Settings, name: str = "lab-1") -> LabStatus:
    """Say what runs of a lab host. Raises `NotFound` when there is none of that name."""
    paths = lab_paths(settings, name)
    return LabStatus(LabHost(load_facts(paths), paths), _bmc_pid(paths), read_pid(paths.folder))


def cut_power(settings: Settings, name: str = "lab-1") -> bool:
    """Kill the host's QEMU by its id, as when the power fails; the BMC sees the host off. Return whether it ran."""
    paths = lab_paths(settings, name)
    pid = read_pid(paths.folder)
    return pid is not None and pids.end_process(pid, (str(paths.folder),), sign=signal.SIGKILL)


def _start_bmc(settings: Settings, tools: ToolsRoot, paths: LabPaths, *, owner_pid: int | None) -> None:
    argv = [sys.executable, "-m", _MODULE, *_bmc_marks(paths)[1:]]
    argv += [f"--tools={tools.root}", f"--cache={settings.state_dir / 'machine'}"]
    if owner_pid is not None:
        argv.append(f"--owner={owner_pid}")
    process.run(argv, env={"PYTHONPATH": str(_PROJECT), "PYTHONUNBUFFERED": "1"}, timeout_s=60)


def _bmc_marks(paths: LabPaths) -> tuple[str, str]:
    return (_MODULE, f"--dir={paths.folder}")


def _bmc_pid(paths: LabPaths) -> int | None:
    try:
        pid = int(paths.bmc_pid.read_text())
    except (OSError, ValueError):
        return None
    return pid if pids.is_ours(pid, _bmc_marks(paths)) else None


def _end_processes(paths: LabPaths) -> None:
    marks = _bmc_marks(paths)
    for pid in pids.find_processes(marks):
        pids.end_process(pid, marks)
    remove_stale_machine(paths.folder)
    paths.bmc_pid.unlink(missing_ok=True)


def _free_ports() -> LabPorts:
    # All are held at once, so that they differ.
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ssh, bmc, netboot = (each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    return LabPorts(ssh, bmc, netboot)


def _still_free(ports: LabPorts) -> LabPorts:
    # A QEMU that was killed a moment ago may hold its port for another one.
    deadline = time.monotonic() + _PORTS_TIMEOUT_S
    while True:
        try:
            for port in (ports.ssh, ports.bmc, ports.netboot):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                return _free_ports()
            time.sleep(0.2)
        else:
            return ports


def _cpus() -> int:
    return min(4, os.cpu_count() or 1)
