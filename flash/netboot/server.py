"""The HTTP server of a flash controller: runs in threads, serves the deliveries that are open and nothing else.

GET  /ipxe.efi                  iPXE, for UEFI             GET  /<token>/kernel, initrd, job
GET  /boot.ipxe, autoexec.ipxe  the first script           GET  /<token>/blobs/<sha256>      ranges
GET  /boot/<mac>.ipxe           the installer's, once      POST /<token>/report              JSON lines
GET  /<token>/ipxe.efi, boot.ipxe, installer.ipxe          the same for hosts that were given the path; and files that a door adds
"""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from flash.netboot.delivery import MAX_REPORT_BYTES, Deliveries, Delivery, OpenDelivery, parse_report
from flash.netboot.ipxe import render_chain_script, render_own_chain_script
from qtrade.errors import BadInput, ConflictError

_FIRST_SCRIPT = ("boot.ipxe", "autoexec.ipxe")
_CHUNK_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_BLOB = re.compile(r"blobs/([0-9a-f]{64})")


class FlashServer:
    """Serves deliveries on `listen`:`port` (0: any free port); a context manager.

    `url` is how hosts reach it, without a trailing slash, when that differs from where it listens. `efi_loader` is iPXE
    as an EFI program, for UEFI hosts that boot over HTTP: it asks for `autoexec.ipxe` next to itself.
    """

    def __init__(self, listen: str, port: int, *, url: str | None = None, efi_loader: Path | None = None) -> None:
        self.efi_loader = efi_loader
        # Where a client on this very machine reaches it.
        self.listens_on = "127.0.0.1" if listen in ("", "0.0.0.0") else listen  # noqa: S104 - a comparison
        try:
            self._server = _Server((listen, port), self)
        except OSError as error:
            raise ConflictError(
                f"{listen}:{port} cannot be listened on: {error.strerror}",
                resolution="end the other flash that uses this port, or change `netboot` in the host's manifest",
            ) from error
        self.port: int = self._server.server_address[1]
        self.url = url or f"http://{listen}:{self.port}"
        self.deliveries = Deliveries(self.url)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="netboot", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def serving(self, delivery: Delivery) -> Iterator[OpenDelivery]:
        """Serve a delivery for the length of a `with` block; after it, its paths answer 404.

        Raises `ConflictError` when another delivery waits for the same MAC.
        """
        entry = self.deliveries.open(delivery)
        try:
            yield entry
        finally:
            self.deliveries.close(entry.token)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], owner: FlashServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that hang up in the middle, as hosts that reboot do; show every other error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._get()

    def do_HEAD(self) -> None:
        self._get()

    def do_POST(self) -> None:
        token, _, rest = self._parts()
        entry = self.server.owner.deliveries.find(token)
        length = self.headers.get("Content-Length", "")
        if entry is None or rest != "report":
            self._refuse(HTTPStatus.NOT_FOUND)
        elif not length.isdigit():
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > MAX_REPORT_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._take_report(entry, self.rfile.read(int(length)))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: paths are unguessable on purpose, and the flash's journal tells what was served."""

    def _get(self) -> None:
        owner = self.server.owner
        first, _, rest = self._parts()
        if first in _FIRST_SCRIPT and not rest:
            self._send(render_chain_script(owner.url).encode())
        elif first == "ipxe.efi" and not rest and owner.efi_loader is not None:
            self._send(owner.efi_loader.read_bytes(), "application/efi")
        elif first == "boot" and rest.endswith(".ipxe"):
            # A HEAD must not use up the one answer that boots the installer.
            mac = rest.removesuffix(".ipxe") if self.command == "GET" else ""
            self._send(owner.deliveries.take_boot_script(mac).encode())
        elif (entry := owner.deliveries.find(first)) is not None:
            self._get_part(entry, rest)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _get_part(self, entry: OpenDelivery, part: str) -> None:
        delivery = entry.delivery
        blob = _BLOB.fullmatch(part)
        if blob is not None and (path := delivery.blobs(blob.group(1))) is not None:
            self._send_file(path, entry, blob.group(1))
        elif part in entry.files:
            self._send_file(entry.files[part], entry, part)
        elif part in _FIRST_SCRIPT:
            self._send(render_own_chain_script(entry.url).encode())
        elif part == "installer.ipxe":
            armed = self.command == "GET"
            self._send(self.server.owner.deliveries.take_script(entry.token if armed else "").encode())
        elif part == "ipxe.efi" and self.server.owner.efi_loader is not None:
            self._send(self.server.owner.efi_loader.read_bytes(), "application/efi")
        elif part == "job" and entry.job is not None:
            self._send(entry.job, "application/json")
        elif part == "kernel" and delivery.boot is not None:
            self._send_file(delivery.boot.kernel, entry, "kernel")
        elif part == "initrd" and delivery.boot is not None:
            self._send_file(delivery.boot.initrd, entry, "initrd")
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _take_report(self, entry: OpenDelivery, body: bytes) -> None:
        try:
            lines = parse_report(body)
        except BadInput:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        for line in lines:
            entry.delivery.on_report(line)
        self._start(HTTPStatus.NO_CONTENT)

    def _send_file(self, path: Path, entry: OpenDelivery, name: str) -> None:
        with path.open("rb") as source:
            size_bytes = path.stat().st_size
            wanted = parse_range(self.headers.get("Range"), size_bytes)
            if wanted is None:
                self._start(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, {"Content-Range": f"bytes */{size_bytes}"})
                return
            headers = {"Accept-Ranges": "bytes"}
            status = HTTPStatus.OK
            if "Range" in self.headers and len(wanted) != size_bytes:
                status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size_bytes}"
            self._start(status, len(wanted), headers)
            at, end = wanted.start, wanted.stop if self.command == "GET" else wanted.start
            # From the page cache into the socket; a file that became shorter ends the answer.
            while at < end and (sent := self.connection.sendfile(source, at, min(_CHUNK_BYTES, end - at))):
                entry.count(name, sent)
                at += sent

    def _send(self, body: bytes, kind: str = "text/plain") -> None:
        self._start(HTTPStatus.OK, len(body), {"Content-Type": kind, "Cache-Control": "no-store"})
        if self.command == "GET":
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus) -> None:
        # The body of a refused POST was not read, so the connection cannot be used again.
        self.close_connection = True
        self._start(status, 0, {"Connection": "close"})

    def _start(self, status: HTTPStatus, length: int | None = None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _parts(self) -> tuple[str, str, str]:
        return self.path.partition("?")[0].removeprefix("/").partition("/")


def parse_range(header: str | None, size_bytes: int) -> range | None:
    """Return the bytes that a Range header wants, all without one, None when it cannot be satisfied.

    As RFC 9110 allows, several ranges or another unit are answered with the whole file.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.group(0) == "bytes=-":
        return range(size_bytes)
    first, last = found.groups()
    if not first:
        return range(max(0, size_bytes - int(last)), size_bytes) if int(last) else None
    start, stop = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
    return range(start, stop) if start < stop else None
