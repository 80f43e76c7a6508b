"""Read addresses: redirects without leaks, limits, and errors that name the address but no secret."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from qtrade.errors import NotFound, QtradeError, Refused, ToolError
from qtrade.redaction import register_secret

TOKEN_VARIABLE = "QTRADE_GITHUB_TOKEN"  # noqa: S105 - the name of the variable, not a token
TIMEOUT_S = 120
_SMALL_BYTES = 256 << 20
_AUTHORIZATION = "Authorization"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; a token goes along to the same server only, and nothing goes from TLS to plain text."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise Refused(
                f"{shown(req.full_url)} redirects from https to plain http",
                resolution="tell upstream; do not fetch it so",
            )
        fresh = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get(_AUTHORIZATION)
        if fresh is not None and token and server_of(newurl) == server_of(req.full_url):
            fresh.add_unredirected_header(_AUTHORIZATION, token)
        return fresh


_OPENER = urllib.request.build_opener(_Redirects)


def open_address(url: str, *, headers: dict[str, str] | None = None, token: str | None = None) -> Any:
    """Open an address (http, https, file); the caller closes the answer.

    `token` is sent to the server of `url` only: a redirect to another one drops it. Raises `NotFound`, `Refused`, `ToolError`.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "qtrade", **(headers or {})})  # noqa: S310 - addresses of the recipe
    if token:
        request.add_unredirected_header(_AUTHORIZATION, f"Bearer {token}")
    try:
        return _OPENER.open(request, timeout=TIMEOUT_S)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise web_error(url, error) from error


def web_error(url: str, error: Exception) -> QtradeError:
    """Return the error for an address that cannot be read."""
    missing = isinstance(error, urllib.error.HTTPError) and error.code in (404, 410)
    if missing or isinstance(getattr(error, "reason", error), FileNotFoundError):
        return NotFound(
            f"there is no {shown(url)}",
            details=str(error),
            resolution="run `make standins`"
            if "standins" in url
            else "correct the address, the version or the tag in the recipe",
        )
    hint = "check the address and the network"
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
        hint = f"check that {TOKEN_VARIABLE} holds a token that may read it"
    return ToolError(f"cannot read {shown(url)}", details=str(error), resolution=hint)


def read_address(url: str, *, headers: dict[str, str] | None = None, token: str | None = None) -> bytes:
    """Return what is at an address. Raises as `open_address`, and `ToolError` for more than 256 MiB or a body that ends early."""
    with open_address(url, headers=headers, token=token) as source:
        try:
            content: bytes = source.read(_SMALL_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise web_error(url, error) from error
    if len(content) > _SMALL_BYTES:
        raise ToolError(f"{shown(url)} is larger than {_SMALL_BYTES >> 20} MiB")
    return content


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
