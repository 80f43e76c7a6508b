"""Deliveries: what one flash serves, at an unguessable path, for as long as it lasts."""

import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flash.netboot.ipxe import EXIT_SCRIPT, BootPlan, normalise_mac, render_ipxe_script
from qtrade.errors import BadInput, ConflictError

BlobSource = Callable[[str], Path | None]
JobMaker = Callable[[str], bytes]
ReportSink = Callable[[Mapping[str, object]], None]
MAX_REPORT_BYTES = 1 << 20
_TOKEN_BYTES = 32


def blobs_in(folder: Path) -> BlobSource:
    """Return a source of the blobs that lie in `folder` under their digests."""

    def find(digest: str) -> Path | None:
        path = folder / digest
        return path if path.is_file() else None

    return find


@dataclass(frozen=True)
class Delivery:
    """What one flash serves. `make_job` and `boot` are for hosts that boot from the network; in place, they are None.

    `make_job` gets the delivery's URL, which the job names, and returns the signed job. It is called once.
    """

    blobs: BlobSource
    on_report: ReportSink
    make_job: JobMaker | None = None
    boot: BootPlan | None = None


@dataclass
class OpenDelivery:
    """A delivery while it is served. `files` are more files by name; `served` counts the bytes sent of each blob."""

    delivery: Delivery
    url: str
    job: bytes | None = None
    is_armed: bool = True
    files: dict[str, Path] = field(default_factory=dict)
    served: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def token(self) -> str:
        """The unguessable part of the URL."""
        return self.url.rpartition("/")[2]

    def count(self, digest: str, size_bytes: int) -> None:
        """Note that bytes of a blob were sent."""
        with self.lock:
            self.served[digest] += size_bytes

    def bytes_served(self) -> dict[str, int]:
        """Return how many bytes of each blob were sent so far; more than its size when a host asked twice."""
        with self.lock:
            return dict(self.served)


class Deliveries:
    """All deliveries that are open. For any thread."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._open: dict[str, OpenDelivery] = {}

    def open(self, delivery: Delivery) -> OpenDelivery:
        """Start serving. Raises `ConflictError` when a flash for the same MAC is open, `BadInput` for a bad MAC."""
        url = f"{self._base_url}/{secrets.token_hex(_TOKEN_BYTES)}"
        entry = OpenDelivery(delivery, url, delivery.make_job(url) if delivery.make_job else None)
        with self._lock:
            mac = _asked_by(delivery)
            if delivery.boot is not None and mac is not None and self._find_mac(mac) is not None:
                raise ConflictError(f"another flash waits for {delivery.boot.mac} to boot")
            self._open[entry.token] = entry
        return entry

    def close(self, token: str) -> None:
        """Stop serving; nothing happens when it has stopped."""
        with self._lock:
            self._open.pop(token, None)

    def rearm(self, token: str) -> None:
        """Hand out the boot script once more, for a host whose first try is known to have failed."""
        with self._lock:
            if token in self._open:
                self._open[token].is_armed = True

    def find(self, token: str) -> OpenDelivery | None:
        """Return the delivery at a path, or None when there is none or it has ended."""
        with self._lock:
            return self._open.get(token)

    def take_boot_script(self, mac: str) -> str:
        """Return the installer's script to the first who asks for a MAC with a pending flash, `exit` to all others."""
        try:
            wanted = normalise_mac(mac)
        except BadInput:
            return EXIT_SCRIPT
        with self._lock:
            entry = self._find_mac(wanted)
            return EXIT_SCRIPT if entry is None else _take(entry)

    def take_script(self, token: str) -> str:
        """Return the installer's script of a delivery to the first who asks, `exit` to all others."""
        with self._lock:
            entry = self._open.get(token)
            return EXIT_SCRIPT if entry is None else _take(entry)

    def _find_mac(self, mac: str) -> OpenDelivery | None:
        return next((entry for entry in self._open.values() if _asked_by(entry.delivery) == mac), None)


def _take(entry: OpenDelivery) -> str:
    boot = entry.delivery.boot
    if boot is None or not entry.is_armed:
        return EXIT_SCRIPT
    entry.is_armed = False
    return render_ipxe_script(boot, entry.url)


def _asked_by(delivery: Delivery) -> str | None:
    """Return the MAC for which whoever asks gets the installer."""
    boot = delivery.boot
    return normalise_mac(boot.mac) if boot is not None and boot.mac is not None and boot.asks_by_mac else None


def parse_report(body: bytes) -> list[dict[str, object]]:
    """Return the JSON objects of a body of JSON lines. Raises `BadInput` for anything else."""
    lines: list[dict[str, object]] = []
    for number, line in enumerate(body.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise BadInput(f"line {number} of the report is not JSON") from error
        if not isinstance(value, dict):
            raise BadInput(f"line {number} of the report is not an object")
        lines.append(value)
    return lines
