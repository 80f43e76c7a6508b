"""Connections to web servers that are kept for the next request: a lock asks the same few servers for hundreds of files.

Each new one costs a look-up of the name, a connection and often a handshake. Proxies are those of the environment, as everywhere in Python
(`http_proxy`, `https_proxy`, `no_proxy`); certificates are those that the system trusts.
"""

import ssl
import threading
import urllib.parse
import urllib.request
from typing import Any

import urllib3
from urllib3.exceptions import ProtocolError
from urllib3.util import make_headers, parse_url

_TIMEOUT_S = 120
_KEPT = 8


class Connections:
    """Pools of connections, one for each proxy and one for servers that are reached without. Threads share it."""

    def __init__(self) -> None:
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def request(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Ask for an address, and follow no redirect; the connection is free again when the answer was read.

        Raises `urllib3.exceptions.HTTPError`, `OSError`.
        """
        try:
            return self._ask(url, headers)
        except ProtocolError:  # the server had closed a kept connection, which shows only when it is used
            return self._ask(url, headers)

    def _ask(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        pool = self._pool(proxy_for(url))
        # No retries by the library: its error for them names the query, which may hold a signature.
        return pool.request(
            "GET", url, headers=headers, redirect=False, retries=False, preload_content=False, decode_content=False
        )

    def _pool(self, proxy: str) -> urllib3.PoolManager:
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = _make_pool(proxy)
            return self._pools[proxy]


def proxy_for(url: str) -> str:
    """Return the proxy that the environment names for an address, empty for none."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _make_pool(proxy: str) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "maxsize": _KEPT,
        "timeout": urllib3.Timeout(_TIMEOUT_S),
        "ssl_context": ssl.create_default_context(),
    }
    if not proxy:
        return urllib3.PoolManager(**options)
    login = parse_url(proxy).auth
    headers = make_headers(proxy_basic_auth=urllib.parse.unquote(login)) if login else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
