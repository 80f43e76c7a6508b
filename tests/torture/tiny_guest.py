"""The tiny guest: a real host but for its one small layer, driven over HTTP, whose power can be cut at any moment."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flash.config import Bundle, ConfigFile
from flash.doors.installer import INSTALLER_ARGUMENTS
from flash.jobs import JobBuilder, SignedJob, check_report
from flash.lab.disks import digest_disk
from flash.netboot.delivery import Delivery
from flash.netboot.server import FlashServer
from qtrade.machine.machine import Machine, Qemu, find_qemu, start_machine
from qtrade.machine.spec import DirectBoot, Disk, Firmware, MachineSpec, Nic, UserNetwork
from qtrade.manifest import Host
from qtrade.settings import Settings
from qtrade.store import LocalStore
from qtrade.toolsroot import open_tools
from qtrade.trust.keyring import load_keyring
from tests.torture.tiny_image import HOST, TinyImages

MIB = 1 << 20
OS_DISK, LEDGER = "TINYOS", "TINYLEDGER"
SIZE_BYTES = 840 * MIB
_LEDGER_BYTES = 16 * MIB
_MAC = "52:54:00:71:74:74"
_BOOT_S = 600.0
_POLL_S = 20.0


class PowerLostError(Exception):
    """The guest was killed while something waited for it."""


@dataclass
class Control:
    """What the guest talks to: orders for the boot that said hello last, and what it answers."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    boot_id: str = ""
    hellos: list[dict[str, Any]] = field(default_factory=list)
    order: dict[str, Any] | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    done: dict[str, Any] | None = None
    on_line: Callable[[dict[str, Any]], None] = lambda _line: None
    is_dead: bool = False

    def take(self, path: str, boot_id: str, document: Any) -> Any:
        """Answer a request of the guest."""
        with self.changed:
            if path == "hello":
                self.boot_id = boot_id
                self.hellos.append(document)
            elif boot_id != self.boot_id:
                return None
            elif path == "next":
                self.changed.wait_for(lambda: self.order is not None or boot_id != self.boot_id, _POLL_S)
                if boot_id != self.boot_id:
                    return None
                order, self.order = self.order, None
                return order
            elif path == "line":
                self.lines.append(document)
                self.on_line(document)
            elif path == "done":
                self.done = document
            self.changed.notify_all()
        return None

    def wait(self, what: Callable[[], Any], timeout_s: float) -> Any:
        """Wait until `what` gives something. Raises `PowerLostError` when the guest is gone, `TimeoutError`."""
        with self.changed:
            self.changed.wait_for(lambda: what() or self.is_dead, timeout_s)
            found = what()
        if found:
            return found
        if self.is_dead:
            raise PowerLostError
        raise TimeoutError(f"the guest did not answer in {timeout_s:.0f} s")

    def send(self, order: dict[str, Any]) -> None:
        with self.changed:
            self.done, self.order = None, order
            self.changed.notify_all()

    def set_dead(self, *, is_dead: bool) -> None:
        with self.changed:
            self.is_dead = is_dead
            self.changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, control: Control) -> None:
        self.control = control
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over guests that lost their power in the middle."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        path, _, boot_id = self.path.removeprefix("/").partition("?")
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(self.server.control.take(path, boot_id, document)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


class TinyGuest:
    """A tiny host with an OS disk, a ledger disk and the two servers that it talks to."""

    def __init__(
        self,
        settings: Settings,
        images: TinyImages,
        folder: Path,
        control: Control,
        port: int,
        *,
        firmware: Firmware = Firmware.BIOS,
    ) -> None:
        self.images = images
        self.firmware = firmware
        self.folder = folder
        self.console = folder / "console.log"
        self.control = control
        self.machine: Machine | None = None
        self.reports: list[dict[str, Any]] = []
        self.source = ""
        self.initrd: Path | None = None
        self._settings, self._port = settings, port
        self.describe()
        self._store = LocalStore(settings.store)
        self._qemu: Qemu = find_qemu(settings, open_tools(settings))
        self._generation = 0
        self._install_jobs: dict[str, str] = {}
        self._console_start = 0
        shutil.copyfile(self._qemu.share / "OVMF/OVMF_VARS_4M.fd", self.folder / "vars.fd")
        with self.os_disk.open("wb") as disk:
            disk.truncate(SIZE_BYTES)
        self.ledger.write_bytes(bytes(range(256)) * (_LEDGER_BYTES // 256))

    def describe(self, **fields: Any) -> None:
        """Have jobs for a host whose manifest has these fields in place of the usual ones."""
        self.jobs = JobBuilder(_manifest(self._port, **fields), load_keyring(self._settings))

    @property
    def os_disk(self) -> Path:
        return self.folder / "os.raw"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.raw"

    def image_id(self, version: str) -> str:
        return self.images.versions[version].image.id

    def start(
        self, disk: Path | str | None = None, *, installer: SignedJob | None = None, disks: tuple[Disk, ...] = ()
    ) -> None:
        """Switch on. `disk` is what QEMU opens as the OS disk, `disks` are others in place of all; with an `installer`, its agent's job.

        `initrd`, if it is set, takes the place of the image's installer.
        """
        boot = self._installer(installer) if installer is not None else None
        # A disk that is given has its own word on flushes (write_log.py).
        os_disk = Disk(Path(disk or self.os_disk), OS_DISK, boot_index=1, is_volatile=disk is None)
        usual = (os_disk, Disk(self.ledger, LEDGER, is_volatile=True))
        spec = MachineSpec(
            name=HOST, console=self.console, memory_mib=768, cpus=1, has_watchdog=False, direct_boot=boot,
            disks=disks or usual, nic=Nic(_MAC, UserNetwork(), is_bootable=False), firmware=self.firmware,
            uefi_vars=self.folder / "vars.fd" if self.firmware is Firmware.UEFI else None,
        )  # fmt: skip
        self.control.set_dead(is_dead=False)
        self.control.hellos.clear()
        self._console_start = self.console.stat().st_size if self.console.exists() else 0
        self.machine = start_machine(spec, self._qemu, self.folder / "machine")

    def kill(self) -> None:
        """Cut the power (SIGKILL)."""
        if self.machine is not None:
            self.machine.kill()
            self.control.set_dead(is_dead=True)

    def hello(self, timeout_s: float = _BOOT_S) -> dict[str, Any]:
        """Wait for the next boot that is healthy, and return its status."""
        self.control.wait(lambda: self.control.hellos, timeout_s)
        return self.control.hellos.pop(0)

    def run(self, job: SignedJob, timeout_s: float = 300) -> dict[str, Any]:
        """Have the agent do a job; return its report. Raises `HostError` when it failed, `PowerLostError`."""
        self.control.lines.clear()
        self.control.send({"verb": "run", "job": job.envelope})
        status = self.control.wait(lambda: self.control.done, timeout_s)
        report = check_report(self.control.lines[-1], job.nonce, HOST)
        return {**report, "status": status}

    def reboot(self) -> None:
        """Ask for a reboot; `hello` waits for what comes after."""
        self.control.send({"verb": "reboot"})

    def bundle(self, version: str) -> dict[str, Any]:
        """Return a new signed config generation for a version, whose one file names both."""
        self._generation += 1
        text = f"{version} {self._generation}\n" * 500
        files = (ConfigFile("tiny.conf", "0644", "root", "root", text),)
        return Bundle(HOST, self.image_id(version), files).envelope(self._generation, self.jobs.key)

    def stage(self, version: str) -> SignedJob:
        return self.jobs.stage(self.images.versions[version], source=self.source, bundle=self.bundle(version))

    def install_job(self, version: str) -> SignedJob:
        """Return the job by which the installer writes the disk; its report goes to `reports`."""
        job = self.jobs.install(
            self.images.versions[version],
            source=self.source,
            report=f"{self.source}/report",
            bundle=self.bundle(version),
        )
        self._install_jobs[job.nonce] = version
        return job

    def install(self, version: str) -> None:
        """Install by the real installer, and leave the host off."""
        job = self.install_job(version)
        self.start(installer=job)
        self.wait_installed(job)
        self.kill()

    def wait_installed(self, job: SignedJob, timeout_s: float = _BOOT_S) -> dict[str, Any]:
        """Wait for the installer's report."""
        deadline = time.monotonic() + timeout_s
        while not (self.reports and self.reports[-1].get("nonce") == job.nonce):
            if self.machine is None or not self.machine.is_running():
                raise PowerLostError
            said = self.machine.console.read(self._console_start)
            assert "qtrade: FAIL" not in said, said[-2000:]
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no report of the installer; its console: {self.console.read_text(errors='replace')[-2000:]}"
                )
            time.sleep(0.05)
        return check_report(self.reports[-1], job.nonce, HOST)

    def _installer(self, job: SignedJob) -> DirectBoot:
        image = self.images.versions[self._install_jobs[job.nonce]].image
        path = self.folder / "job.json"
        path.write_text(json.dumps(job.envelope))
        append = f"{INSTALLER_ARGUMENTS} quiet qtrade.job={self.source}/blobs/{'0' * 64} qtrade.root={self.jobs.root_id} qtrade.mac={_MAC}"
        initrd = self.initrd or self._store.open_blob(image.installer.digest)
        return DirectBoot(self._store.open_blob(image.kernel.digest), initrd, append)

    def find_blob(self, digest: str) -> Path | None:
        """Return a blob of the store; the job of the installer lies under a digest of zeros."""
        return self.folder / "job.json" if digest == "0" * 64 else self._store.open_blob(digest)


@contextmanager
def tiny_guest(
    settings: Settings, images: TinyImages, folder: Path, *, firmware: Firmware = Firmware.BIOS
) -> Iterator[TinyGuest]:
    """Make a blank tiny host in an empty folder, with its servers; its power is cut at the end, and its ledger disk compared."""
    control = Control()
    server = _Server(control)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    guest = TinyGuest(settings, images, folder, control, server.server_address[1], firmware=firmware)
    before = digest_disk(guest.ledger)
    delivery = Delivery(guest.find_blob, lambda line: guest.reports.append(dict(line)))
    try:
        with FlashServer("127.0.0.1", 0) as flash_server, flash_server.serving(delivery) as served:
            guest.source = f"http://10.0.2.2:{flash_server.port}/{served.token}"
            yield guest
        assert digest_disk(guest.ledger) == before, "the ledger disk was changed"
    finally:
        guest.kill()
        server.shutdown()
        server.server_close()
        thread.join()


def _manifest(port: int, **fields: Any) -> Host:
    return Host.model_validate(
        {
            "schema_version": 1, "name": HOST, "environment": "development", "role": "rpc", "recipe": "tiny", "address": "127.0.0.1",
            "driver": {"kind": "ssh"}, "doors": ["in_place"],
            "os_disk": {"serial": OS_DISK, "size_bytes": SIZE_BYTES, "system_mib": 512, "esp_mib": 40},
            "protected_disks": [{"serial": LEDGER}],
            "cmdline": f"quiet tiny.control=10.0.2.2:{port}",
            **fields,
        }
    )  # fmt: skip
