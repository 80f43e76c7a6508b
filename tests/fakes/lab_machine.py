"""A lab host as a provider's machine: it cuts power, boots what the provider says from the network, and erases disks."""

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from flash.drivers import BootSource
from flash.drivers.redfish import RedfishDriver
from flash.lab.host import LabHost
from qtrade.settings import Settings
from tests.fakes.stock_debian import ARGUMENTS, StockDebian, ensure_stock_debian, install_on, setup_archive

_EXIT = "#!ipxe\nexit\n"


@dataclass
class ProviderNetboot:
    """The provider's own netboot server, where the lab host's card asks: a script for one boot, and the files of the rescue system."""

    host: LabHost
    stock: StockDebian
    script: str = _EXIT
    extra: bytes = b""
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", self.host.facts.ports.netboot), self)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """How the host reaches it."""
        return self.host.facts.guest_netboot_url

    def chain(self, url: str) -> None:
        """Hand out another's script, once."""
        self.script = f"#!ipxe\nchain --replace {url} || exit\n"

    def rescue(self, *, keys: tuple[str, ...], password: str | None) -> None:
        """Hand out the rescue system, once."""
        self.extra = setup_archive(keys=keys, password=password)
        self.script = (
            f"#!ipxe\nkernel {self.url}/kernel {ARGUMENTS} initrd=initrd || exit\n"
            f"initrd --name initrd {self.url}/initrd || exit\ninitrd --name extra {self.url}/extra || exit\nboot || exit\n"
        )

    def answer(self, name: str) -> Path | bytes | None:
        """Return what lies at a name."""
        self.asked.append(name)
        if name == "boot.ipxe":
            script, self.script = self.script, _EXIT
            return script.encode()
        return {"kernel": self.stock.kernel, "initrd": self.stock.initrd, "extra": self.extra}.get(name)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], owner: ProviderNetboot) -> None:
        self.owner = owner
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version: ClassVar[str] = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        found = self.server.owner.answer(self.path.strip("/"))
        body = found.read_bytes() if isinstance(found, Path) else found
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


class LabMachine:
    """The lab host behind a fake provider; `done` says what was done to it. `key` is the operators' public key."""

    def __init__(self, settings: Settings, host: LabHost, netboot: ProviderNetboot, key: str) -> None:
        self.done: list[str] = []
        self._settings = settings
        self._host = host
        self._netboot = netboot
        self._key = key

    @property
    def is_on(self) -> bool:
        with RedfishDriver(self._host.access) as driver:
            return driver.power_state() == "On"

    def power_on(self) -> None:
        self.done.append("power on")
        with RedfishDriver(self._host.access) as driver:
            driver.power_on()

    def power_off(self) -> None:
        self.done.append("power off")
        with RedfishDriver(self._host.access) as driver:
            driver.power_off()

    def boot_ipxe(self, url: str) -> None:
        self.done.append("ipxe")
        self._netboot.chain(url)
        self._boot(BootSource.PXE)

    def boot_rescue(self, *, password: str | None) -> None:
        self.done.append("rescue")
        self._netboot.rescue(keys=() if password else (self._key,), password=password)
        self._boot(BootSource.PXE)

    def boot_disk(self) -> None:
        self.done.append("disk")
        self._boot(BootSource.HDD)

    def reinstall(self, *, hostname: str, public_keys: tuple[str, ...]) -> None:
        self.done.append("reinstall")
        self.power_off()
        self.wipe()
        disk = self._host.paths.os_disk
        install_on(self._netboot.stock, self._settings, disk, hostname=hostname, keys=public_keys)
        self.power_on()

    def wipe(self) -> None:
        self.done.append("wipe")
        self.power_off()
        paths = self._host.paths
        for disk in (paths.os_disk, paths.ledger, paths.data):
            size = disk.stat().st_size
            with disk.open("r+b") as file:
                file.truncate(0)
                file.truncate(size)

    def _boot(self, source: BootSource) -> None:
        with RedfishDriver(self._host.access) as driver:
            driver.boot_once(source)
            driver.power_cycle()


def open_netboot(settings: Settings, host: LabHost) -> ProviderNetboot:
    """Return the provider's netboot server of a lab host, not yet started."""
    return ProviderNetboot(host, ensure_stock_debian(settings))
