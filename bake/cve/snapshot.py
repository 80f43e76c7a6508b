"""Snapshots of the security tracker: fetched on purpose, stored by digest, used only while they are young enough."""

import gzip
import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bake.cve.tracker import ISSUES, Issues, issues_of, parse_tracker
from bake.whole_file import write_whole
from qtrade.errors import NotFound, Refused, ToolError, TrustError
from qtrade.manifest.base import Model, Sha256
from qtrade.settings import Settings

TRACKER_URL = "https://security-tracker.debian.org/tracker/data/json"
_UPDATE = "qtrade images cve --update"
_TIMEOUT_S = 120
_LARGEST_BYTES = 1 << 30


class Snapshot(Model):
    """A snapshot in the cache.

    `time` is when its server made the data (Last-Modified) or, where it does not say, when it last confirmed them;
    `fetched` is when they were asked for last. Both UTC.
    """

    url: str
    sha256: Sha256
    time: datetime
    fetched: datetime
    etag: str = ""


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from https to something that anybody on the way can change."""

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> urllib.request.Request | None:
        target = super().redirect_request(req, *rest)
        if target and req.full_url.startswith("https:") and not target.full_url.startswith("https:"):
            raise TrustError(f"{req.full_url} redirects to {target.full_url}, which is not https")
        return target


def fetch_snapshot(settings: Settings, url: str, now: datetime) -> Snapshot:
    """Fetch the tracker's data and make them the latest snapshot; unchanged data (304) only become younger.

    Raises `BadInput` for data of another shape, `ToolError` when the transfer fails, `TrustError`. Then the latest snapshot
    stays what it was.
    """
    known = find_snapshot(settings)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})  # noqa: S310 - the operator's address
    if known and known.url == url and known.etag and _data_path(settings, known.sha256).is_file():
        request.add_header("If-None-Match", known.etag)
    try:
        with urllib.request.build_opener(_NoDowngrade).open(request, timeout=_TIMEOUT_S) as answer:
            content, headers = _read_body(answer, url), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            if error.code != http.HTTPStatus.NOT_MODIFIED or known is None:
                raise _unreachable(url, str(error)) from error
            return _remember(settings, known.model_copy(update=_times(error.headers, now, known)))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(url, str(error)) from error
    parse_tracker(content, url)
    sha256 = hashlib.sha256(content).hexdigest()
    write_whole(_data_path(settings, sha256), content)
    times = _times(headers, now, None)
    return _remember(settings, Snapshot(url=url, sha256=sha256, etag=headers.get("ETag", ""), **times))


def latest_snapshot(settings: Settings, now: datetime, max_days: int) -> Snapshot:
    """Return the latest snapshot. Raises `NotFound`, or `Refused` when it is older than `max_days`."""
    found = find_snapshot(settings)
    if found is None:
        raise NotFound("there is no snapshot of the Debian security tracker", resolution=f"fetch one: {_UPDATE}")
    age = now - found.time
    if age > timedelta(days=max_days):
        raise Refused(
            f"the snapshot of the security tracker is {age.days} days old; the limit is {max_days}",
            details=f"snapshot {found.sha256[:12]} of {found.time.isoformat()}, fetched {found.fetched.isoformat()}",
            resolution=f"fetch a new one: {_UPDATE}",
        )
    return found


def find_snapshot(settings: Settings) -> Snapshot | None:
    """Return the latest snapshot, of whatever age, or None."""
    try:
        return Snapshot.model_validate_json((_folder(settings) / "latest.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def load_issues(settings: Settings, snapshot: Snapshot, suite: str) -> Issues:
    """Return what the snapshot says of `suite`; the extract is kept, since the whole takes seconds to read.

    Raises `BadInput`, `NotFound`, or `TrustError` when the stored bytes are not those that were fetched.
    """
    extract = _folder(settings) / f"{snapshot.sha256}.{suite}.json"
    try:
        return ISSUES.validate_json(extract.read_bytes())
    except (FileNotFoundError, ValidationError):
        pass  # not made yet, or by an older qtrade
    path = _data_path(settings, snapshot.sha256)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{path} is gone", resolution=f"fetch it again: {_UPDATE}") from error
    if hashlib.sha256(content).hexdigest() != snapshot.sha256:
        path.unlink()
        raise TrustError(f"{path} was changed after it was fetched; it is removed", resolution=f"run {_UPDATE}")
    issues = issues_of(parse_tracker(content, str(path)), suite, str(path))
    write_whole(extract, ISSUES.dump_json(issues))
    return issues


def _read_body(answer: Any, url: str) -> bytes:
    raw: bytes = answer.read(_LARGEST_BYTES + 1)
    if len(raw) > _LARGEST_BYTES:
        raise ToolError(f"{url} sends more than {_LARGEST_BYTES} bytes")
    announced = answer.headers.get("Content-Length")
    if announced and int(announced) != len(raw):
        raise ToolError(f"{url} broke off after {len(raw)} of {announced} bytes", resolution=f"try again: {_UPDATE}")
    if answer.headers.get("Content-Encoding") != "gzip":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise ToolError(f"{url} sends broken gzip", details=str(error), resolution=f"try again: {_UPDATE}") from error


def _times(headers: Any, now: datetime, known: Snapshot | None) -> dict[str, datetime]:
    modified = headers.get("Last-Modified")
    if modified is None:
        # A server that gave a time once and now only says "unchanged" has not made its data younger.
        keeps = known is not None and known.time != known.fetched
        return {"time": known.time if keeps and known else now, "fetched": now}
    try:
        made = parsedate_to_datetime(modified)
    except ValueError:
        return {"time": now, "fetched": now}
    return {"time": min(made if made.tzinfo else made.replace(tzinfo=UTC), now), "fetched": now}


def _folder(settings: Settings) -> Path:
    return settings.cache_dir / "cve"


def _data_path(settings: Settings, sha256: str) -> Path:
    return _folder(settings) / f"{sha256}.json"


def _remember(settings: Settings, snapshot: Snapshot) -> Snapshot:
    write_whole(_folder(settings) / "latest.json", snapshot.model_dump_json().encode())
    return snapshot


def _unreachable(url: str, why: str) -> ToolError:
    return ToolError(
        f"cannot fetch the security tracker's data from {url}",
        details=why,
        resolution="check the network, or name a mirror with --url; the snapshot that is there stays",
    )
