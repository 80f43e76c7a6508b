"""HTTP for the agent: one way to ask, one error for everything that goes wrong. What comes is checked by content, not by its carrier."""

import contextlib
import http.client
import urllib.error
import urllib.request
from typing import Dict, Iterator, Optional

from .errors import AgentError

FAULTS = (OSError, http.client.HTTPException, ValueError)


@contextlib.contextmanager
def ask(
    url: str, *, headers: Optional[Dict[str, str]] = None, data: Optional[bytes] = None, timeout_s: float = 30
) -> Iterator[http.client.HTTPResponse]:
    """Open `url` and give the answer. Raises `AgentError` for an error status or no connection; reading may raise `FAULTS`."""
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        raise AgentError("http-failed", f"{url} answers {error.code} {error.reason}", "check the store") from None
    except FAULTS as error:
        raise AgentError("http-failed", f"{url} cannot be had: {error}", "check the store and the network") from error
    with answer:
        yield answer
