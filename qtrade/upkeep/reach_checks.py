"""Who answers: hosts at their SSH port, their BMCs or providers' APIs, and a store in S3. Only where it was asked for."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from qtrade.errors import QtradeError
from qtrade.manifest import Host
from qtrade.settings import S3Address, Settings
from qtrade.store import open_store
from qtrade.upkeep.check import Check, good, missing, warning

_TIMEOUT_S = 5.0
_SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class _Place:
    name: str
    address: str
    port: int
    cure: str


def check_reach(settings: Settings, hosts: tuple[Host, ...]) -> Iterator[Check]:
    """Give a check for each place, all asked side by side; nobody logs in anywhere."""
    places = tuple(place for host in hosts for place in _places(host))
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        yield from pool.map(_connect, places)
    if isinstance(settings.store, S3Address):
        yield _ask_store(settings)


def _places(host: Host) -> Iterator[_Place]:
    cure = f"qtrade hosts test --host {host.name}"
    yield _Place(f"host {host.name}", host.address, host.ssh.port, cure)
    url = getattr(host.driver, "url", None)
    if url is not None:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        kind = host.driver.kind
        yield _Place(f"{kind} of {host.name}", parts.hostname or "", port, "correct driver.url, or the way to it")


def _connect(place: _Place) -> Check:
    where = f"{place.address}:{place.port}"
    try:
        with socket.create_connection((place.address, place.port), timeout=_TIMEOUT_S):
            return good(place.name, f"{where} answers")
    except OSError as error:
        return warning(place.name, f"{where}: {error.strerror or error}", place.cure)


def _ask_store(settings: Settings) -> Check:
    try:
        known = open_store(settings).published()
    except QtradeError as error:
        return missing("store", f"{settings.store}: {error.brief} {error.details}".strip(), error.resolution)
    return good("store", f"{settings.store}, {len(known)} versions")
