"""Read addresses: redirects without leaks, limits, and errors that name the address but no secret."""

import functools
import http.client
import json
import os
import threading
import urllib.parse
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from qtrade.errors import NotFound, QtradeError, Refused, ToolError
from qtrade.redaction import register_secret

if TYPE_CHECKING:
    import urllib3

    from bake.lock.connections import Connections

TOKEN_VARIABLE = "QTRADE_GITHUB_TOKEN"  # noqa: S105 - the name of the variable, not a token
_SMALL_BYTES = 256 << 20
_CHUNK = 1 << 20
_WEB = ("http", "https")
_FIRST = threading.Lock()  # of many threads that begin together, one makes what all share
_REDIRECTS = 10


class Answer(Protocol):
    """What an address gives: `read1` returns the bytes that came, some up to `amount`, none at the end."""

    def read1(self, amount: int, /) -> bytes:
        """Return the next bytes."""

    def close(self) -> None:
        """Let go of the connection."""


def open_address(url: str, *, headers: dict[str, str] | None = None, token: str | None = None) -> Answer:
    """Open an address (http, https, file); the caller closes the answer.

    `token` is sent to the server of `url` only: a redirect to another one drops it, and nothing goes from TLS to plain text.
    Raises `NotFound`, `Refused`, `ToolError`.
    """
    if urllib.parse.urlsplit(url).scheme not in _WEB:
        return _open_file(url)
    here = url
    for _ in range(_REDIRECTS):
        answer = _ask(here, {"User-Agent": "qtrade", **(headers or {})}, token)
        target = answer.get_redirect_location()
        if not target:
            if answer.status not in (http.client.OK, http.client.PARTIAL_CONTENT):
                answer.close()
                raise _status_error(url, answer.status, answer.reason)
            return answer
        answer.close()
        there = urllib.parse.urljoin(here, target)
        _check_redirect(here, there)
        token = token if server_of(there) == server_of(here) else None
        here = there
    raise ToolError(
        f"cannot read {shown(url)}", details=f"more than {_REDIRECTS} redirects", resolution="tell upstream"
    )


def _ask(url: str, headers: dict[str, str], token: str | None) -> "urllib3.BaseHTTPResponse":
    if token:
        headers = {**headers, "Authorization": f"Bearer {token}"}
    try:
        with _FIRST:
            connections = _connections()
        return connections.request(url, headers)
    except _broken() as error:
        raise web_error(url, error) from error


def _check_redirect(here: str, there: str) -> None:
    if here.startswith("https:") and not there.startswith("https:"):
        raise Refused(
            f"{shown(here)} redirects from https to plain http", resolution="tell upstream; do not fetch it so"
        )
    if urllib.parse.urlsplit(there).scheme not in _WEB:
        raise Refused(f"{shown(here)} redirects to {shown(there)}", resolution="tell upstream; do not fetch it so")


def _open_file(url: str) -> Answer:
    """Open a `file:` address. Raises `NotFound`, `ToolError`."""
    try:
        answer: Answer = urllib.request.urlopen(url)  # noqa: S310 - no web address comes here
    except (OSError, ValueError) as error:
        raise web_error(url, error) from error
    return answer


@functools.cache
def _connections() -> "Connections":
    from bake.lock.connections import Connections  # noqa: PLC0415 - a bake with nothing to fetch needs none

    return Connections()


def _broken() -> tuple[type[Exception], ...]:
    """Return what reading from the web may raise."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - the same

    return (OSError, HTTPError, http.client.HTTPException)


def read_some(source: Answer, url: str, amount: int) -> bytes:
    """Return the bytes that came next from an address, none at the end. Raises `ToolError` for a transfer that breaks off."""
    try:
        return source.read1(amount)
    except _broken() as error:
        raise web_error(url, error) from error


def web_error(url: str, error: Exception) -> QtradeError:
    """Return the error for an address that cannot be read."""
    if isinstance(getattr(error, "reason", error), FileNotFoundError):
        return _missing(url, str(error))
    return ToolError(f"cannot read {shown(url)}", details=str(error), resolution="check the address and the network")


def _status_error(url: str, status: int, reason: str | None) -> QtradeError:
    said = f"HTTP Error {status}: {reason}"
    if status in (http.client.NOT_FOUND, http.client.GONE):
        return _missing(url, said)
    hint = "check the address and the network"
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        hint = f"check that {TOKEN_VARIABLE} holds a token that may read it"
    return ToolError(f"cannot read {shown(url)}", details=said, resolution=hint)


def _missing(url: str, said: str) -> NotFound:
    cure = (
        "run `make standins` (docs/install.md)"
        if "standins" in url
        else "correct the address, the version or the tag in the recipe"
    )
    return NotFound(f"there is no {shown(url)}", details=said, resolution=cure)


def read_address(url: str, *, headers: dict[str, str] | None = None, token: str | None = None) -> bytes:
    """Return what is at an address. Raises as `open_address`, and `ToolError` for more than 256 MiB or a body that ends early."""
    content = bytearray()
    with closing(open_address(url, headers=headers, token=token)) as source:
        while len(content) <= _SMALL_BYTES and (chunk := read_some(source, url, _CHUNK)):
            content += chunk
    if len(content) > _SMALL_BYTES:
        raise ToolError(f"{shown(url)} is larger than {_SMALL_BYTES >> 20} MiB")
    return bytes(content)


def read_json(url: str, *, token: str | None = None) -> Any:
    """Return the JSON document at an address. Raises as `read_address`."""
    content = read_address(url, headers={"Accept": "application/vnd.github+json"}, token=token)
    try:
        return json.loads(content)
    except ValueError as error:
        raise ToolError(f"{shown(url)} is not JSON", details=content[:200].decode(errors="replace")) from error


def read_token(address: str) -> str | None:
    """Return the token of the environment for an API at `address`, and hide it from now on. Raises `Refused` for plain http."""
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        return None
    register_secret(token)
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise Refused(f"a token is not sent over plain http to {shown(address)}", resolution="use the https address")
    return token


def file_name(url: str) -> str:
    """Return the name of the file at an address, `%2B` and the like decoded."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1])


def server_of(url: str) -> tuple[str, str]:
    """Return scheme and host with port of an address."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def shown(url: str) -> str:
    """Return an address without its query and without credentials: both may hold secrets."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, "", ""))
