"""Download files into the cache: side by side, resumed where they broke off, checked against size and digest."""

import hashlib
import http.client
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bake.lock import web
from bake.lock.cache import adopt, cached_path
from qtrade.errors import NotFound, QtradeError, ToolError, TrustError
from qtrade.reporter import Reporter
from qtrade.settings import Settings

_CHUNK = 1 << 20
_SIDE_BY_SIDE = 8
_ATTEMPTS = 3


@dataclass(frozen=True)
class Wanted:
    """A file to have: `addresses` are tried in order. `what` names it for people; `headers` and `token` go with the request."""

    what: str
    file: str
    sha256: str
    size: int
    addresses: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    token: str | None = None


def fetch_all(settings: Settings, wanted: Iterable[Wanted], reporter: Reporter) -> None:
    """Have every file in the cache. Raises the error of the first that cannot be had; the others end first, and stay."""
    missing = [item for item in wanted if not cached_path(settings, item.sha256, item.file).is_file()]
    if not missing:
        return
    total = sum(item.size for item in missing)
    name = missing[0].what if len(missing) == 1 else f"{len(missing)} files"
    with reporter.transfer(f"download {name}", total) as advance:
        counter = _Counter(advance)
        with ThreadPoolExecutor(
            _SIDE_BY_SIDE
        ) as pool:  # the largest first, so that none of them comes alone at the end
            ordered = sorted(missing, key=lambda item: item.size, reverse=True)
            done = list(pool.map(lambda item: _attempt(settings, item, counter.add), ordered))
    failures = [error for error in done if error is not None]
    if failures:
        raise failures[0]


def fetch(settings: Settings, item: Wanted, advance: Callable[[int], None] = lambda _: None) -> Path:
    """Return the file in the cache, downloaded if it is not there. `advance` gets the bytes that came.

    Raises `NotFound`, `ToolError`, or `TrustError` when upstream has other bytes; those are not kept.
    """
    target = cached_path(settings, item.sha256, item.file)
    if target.is_file():
        return target
    error: QtradeError = NotFound(f"{item.what} has no address")
    for address in item.addresses:
        for _ in range(_ATTEMPTS):
            try:
                return _fetch_from(settings, item, address, advance)
            except NotFound as problem:
                error = problem
                break
            except (
                ToolError
            ) as problem:  # a connection that broke; what came of the file is kept, and the next attempt goes on
                error = problem
    raise error


def fetch_unknown(
    settings: Settings, url: str, file: str, *, headers: dict[str, str] | None = None, token: str | None = None
) -> tuple[Path, str, int]:
    """Download a file whose digest nobody names, and return its place in the cache, SHA-256 and size in bytes."""
    folder = settings.cache_dir / "partial" / hashlib.sha256(url.encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / file
    total = hashlib.sha256()
    with closing(web.open_address(url, headers=headers, token=token)) as source, fresh.open("wb") as sink:
        for chunk in _chunks(source, url):
            total.update(chunk)
            sink.write(chunk)
    size = fresh.stat().st_size
    path = adopt(fresh, settings, total.hexdigest(), move=True)
    folder.rmdir()
    return path, total.hexdigest(), size


class _Counter:
    """Adds up bytes of several threads."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance, self._done, self._lock = advance, 0, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._advance(self._done)


def _attempt(settings: Settings, item: Wanted, advance: Callable[[int], None]) -> QtradeError | None:
    try:
        fetch(settings, item, advance)
    except QtradeError as error:
        return error
    return None


def _fetch_from(settings: Settings, item: Wanted, address: str, advance: Callable[[int], None]) -> Path:
    partial = settings.cache_dir / "partial" / item.sha256 / item.file
    partial.parent.mkdir(parents=True, exist_ok=True)
    have = partial.stat().st_size if partial.is_file() else 0
    if have >= item.size:
        partial.unlink(missing_ok=True)
        have = 0
    headers = dict(item.headers) | ({"Range": f"bytes={have}-"} if have else {})
    with closing(web.open_address(address, headers=headers, token=item.token)) as source:
        goes_on = have and getattr(source, "status", 200) == http.client.PARTIAL_CONTENT
        if goes_on:
            advance(have)
        with partial.open("ab" if goes_on else "wb") as sink:
            for chunk in _chunks(source, address):
                sink.write(chunk)
                advance(len(chunk))
                if sink.tell() > item.size:
                    break
    return _accept(settings, item, partial, address)


def _accept(settings: Settings, item: Wanted, partial: Path, address: str) -> Path:
    with partial.open("rb") as source:
        found = hashlib.file_digest(source, "sha256").hexdigest()
    size = partial.stat().st_size
    if found != item.sha256 or size != item.size:
        if size < item.size:
            raise ToolError(
                f"{item.what}: {address} ended after {size} of {item.size} bytes",
                resolution="run the same command again",
            )
        partial.unlink()
        raise TrustError(
            f"{item.what}: {address} is not the file that was pinned",
            details=f"  expected {item.size} bytes, {item.sha256}\n  found    {size} bytes, {found}",
            resolution="find out from upstream why the file changed; only then `qtrade lock --update NAME --accept-changed NAME`",
        )
    path = adopt(partial, settings, item.sha256, move=True)
    partial.parent.rmdir()
    return path


def _chunks(source: web.Answer, url: str) -> Iterable[bytes]:
    while chunk := web.read_some(source, url, _CHUNK):
        yield chunk
