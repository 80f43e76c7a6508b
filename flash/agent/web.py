"""HTTP for the agent: one way to ask, one error for everything that goes wrong. What comes is checked by content, not by its carrier."""

import contextlib
import http.client
import time
import urllib.error
import urllib.request
from typing import IO, Any, Callable, Dict, Iterator, Optional
from urllib.parse import urljoin, urlsplit

from .errors import AgentError

FAULTS = (OSError, http.client.HTTPException, ValueError)
# A source from which nothing comes for so long has stalled; nor may it dribble.
STALL_S = 8.0
_LEAST_BYTES_PER_S = 4096
_RETRY_AFTER_MOST_S = 30.0


class Busy(AgentError):
    """The server asked to come back after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__("http-failed", message, "check the store")
        self.retry_after_s = retry_after_s


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay where the signed job points; all others are refused."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Optional[urllib.request.Request]:
        old, new = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            fp.close()
            raise AgentError(
                "redirect-refused",
                f"{req.full_url} redirects to {new.scheme}://{new.netloc}, the job names {old.scheme}://{old.netloc}",
                "let the source answer itself, or name the other host in `netboot`",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_SameHost)


@contextlib.contextmanager
def ask(
    url: str, *, headers: Optional[Dict[str, str]] = None, data: Optional[bytes] = None, timeout_s: float = 30
) -> Iterator[http.client.HTTPResponse]:
    """Open `url` and give the answer. Raises `AgentError` for an error status or no connection; reading may raise `FAULTS`."""
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        answer = _OPENER.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        message = f"{url} answers {error.code} {error.reason}"
        after = str(error.headers.get("Retry-After", ""))
        if error.code in (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE) and after.isdigit():
            raise Busy(message, min(float(after), _RETRY_AFTER_MOST_S)) from None
        raise AgentError("http-failed", message, "check the store") from None
    except FAULTS as error:
        raise AgentError("http-failed", f"{url} cannot be had: {error}", "check the store and the network") from error
    with answer:
        yield answer


class Pace:
    """Watches how fast bytes come: a connection that dribbles is as dead as one that is silent."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, window_s: float = STALL_S) -> None:
        self._clock = clock
        self._window_s = window_s
        self._since = clock()
        self._bytes = 0

    def note(self, size_bytes: int) -> None:
        """Count bytes. Raises `TimeoutError` when those of the last seconds were too few."""
        self._bytes += size_bytes
        passed = self._clock() - self._since
        if passed < self._window_s:
            return
        if self._bytes < _LEAST_BYTES_PER_S * passed:
            raise TimeoutError(f"only {self._bytes} bytes came in {passed:.0f} s")
        self._since, self._bytes = self._clock(), 0
