"""A provider's API over HTTP: typed answers, patience where it is safe, and no request that changes anything sent twice blindly."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from flash.drivers.api_auth import NoTokenError
from flash.drivers.api_errors import Account, error_for, words_of
from flash.drivers.rate import TokenBucket
from flash.drivers.waiting import Waiting
from qtrade import __version__
from qtrade.errors import BadInput, HostError, QtradeError
from qtrade.redaction import redact

Query = Mapping[str, str]
Json = Mapping[str, Any]
_Model = TypeVar("_Model", bound=BaseModel)
_Answer = TypeVar("_Answer")

_TRIES = 5
_LONGEST_BACKOFF_S = 20.0
_LONGEST_RETRY_AFTER_S = 120.0
_SETTLE_S = 30.0
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_PASSING = frozenset({500, 502, 503, 504})
_TOO_MANY = 429
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Nothing of the request had left yet.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, NoTokenError)


class Answer(BaseModel):
    """What we read of an API's answer. Providers add fields at any time, so what is not named is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True)
class _Outcome:
    """What became of one try to change something; `is_unsure` says that the server may have acted on it."""

    is_done: bool = False
    document: Any = None
    trouble: str = ""
    is_unsure: bool = False
    error: QtradeError | None = None


class Api:
    """One account at one provider. Raises `BadInput`, `Refused` and `HostError`, as `api_errors.error_for` says.

    `find_refusal` looks at the JSON of a good answer for a no in disguise, and returns the API's words; `settle_s` is how long
    to look for the effect of a request whose answer was lost.
    """

    def __init__(
        self,
        account: Account,
        auth: httpx.Auth,
        *,
        bucket: TokenBucket | None = None,
        waiting: Waiting | None = None,
        find_refusal: Callable[[Any], str | None] = lambda _: None,
        settle_s: float = _SETTLE_S,
    ) -> None:
        where = urlsplit(account.url)
        if where.scheme != "https" and where.hostname not in _LOOPBACK:
            raise BadInput(f"driver.url {account.url}: the credential would travel unencrypted", resolution="use https")
        self.account = account
        self._bucket = bucket or TokenBucket()
        self._waiting = waiting or Waiting()
        self._find_refusal = find_refusal
        self._settle_s = settle_s
        self._client = httpx.Client(
            base_url=account.url,
            auth=auth,
            timeout=_TIMEOUT,
            follow_redirects=False,
            headers={"Accept": "application/json", "User-Agent": f"qtrade/{__version__}"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, what: str, path: str, model: type[_Model], *, query: Query | None = None) -> _Model:
        """Read something. Faults that pass are waited out: lost connections, 429, 5xx, answers that are cut or no JSON."""
        trouble = ""
        for attempt in range(_TRIES):
            if attempt:
                self._back_off(attempt)
            try:
                response = self._send("GET", path, query=query)
            except httpx.TransportError as error:
                trouble = _describe(error)
                continue
            if response.status_code in _PASSING or self._was_too_much(response):
                trouble = f"{response.status_code} {words_of(response)}"
            elif not response.is_success:
                raise error_for(self.account, what, response)
            elif (document := _json(response)) is None:
                trouble = f"the answer is no JSON: {words_of(response)}"
            else:
                return self._parse(what, document, model)
        raise self._given_up(what, trouble)

    def act(
        self,
        what: str,
        path: str,
        body: Json | None = None,
        *,
        has_begun: Callable[[], bool],
        query: Query | None = None,
    ) -> None:
        """Change something. It is sent again only where the server surely did not act on it.

        After a lost or failed answer, `has_begun` is asked for a while whether the change shows after all.
        """
        self._change(what, path, body, query, look=lambda: has_begun() or None, take=lambda _: True)

    def create(
        self, what: str, path: str, body: Json, model: type[_Model], *, find: Callable[[], _Model | None]
    ) -> _Model:
        """Make something and return it. `find` looks for it, with the same caution as `act`."""
        return self._change(what, path, body, None, look=find, take=lambda document: self._parse(what, document, model))

    def _change(
        self,
        what: str,
        path: str,
        body: Json | None,
        query: Query | None,
        *,
        look: Callable[[], _Answer | None],
        take: Callable[[Any], _Answer],
    ) -> _Answer:
        trouble, was_unsure = "", False
        for attempt in range(_TRIES):
            if attempt:
                self._back_off(attempt)
            outcome = self._try_change(what, path, body, query)
            if outcome.is_done:
                self._check_refusal(what, outcome.document)
                return take(outcome.document)
            trouble = outcome.trouble
            was_unsure = was_unsure or outcome.is_unsure
            # Before the error too: "busy" may be the echo of an earlier try that had its effect.
            if was_unsure and (found := self._look(look)) is not None:
                return found
            if outcome.error is not None:
                raise outcome.error
        raise self._given_up(what, trouble)

    def _try_change(self, what: str, path: str, body: Json | None, query: Query | None) -> _Outcome:
        try:
            response = self._send("POST", path, body=body, query=query)
        except _UNSENT as error:
            return _Outcome(trouble=_describe(error))
        except httpx.TransportError as error:
            return _Outcome(trouble=_describe(error), is_unsure=True)
        trouble = f"{response.status_code} {words_of(response)}"
        if self._was_too_much(response):
            return _Outcome(trouble=trouble)
        document = _json(response)
        if response.is_success and (document is not None or not response.content):
            return _Outcome(is_done=True, document=document)
        if response.is_success or response.status_code in _PASSING:
            return _Outcome(trouble=trouble, is_unsure=True)
        return _Outcome(trouble=trouble, error=error_for(self.account, what, response))

    def _look(self, look: Callable[[], _Answer | None]) -> _Answer | None:
        """Look for the effect for `settle_s`: a status that lags behind would hide it at first."""
        clock = self._waiting.clock
        deadline = clock() + self._settle_s
        while True:
            if (found := look()) is not None:
                return found
            if clock() >= deadline:
                return None
            self._waiting.sleep(self._waiting.pace.first_s)

    def _send(self, method: str, path: str, *, body: Json | None = None, query: Query | None = None) -> httpx.Response:
        self._bucket.take()
        return self._client.request(method, path, json=body, params=query)

    def _was_too_much(self, response: httpx.Response) -> bool:
        """Hold back everybody on this account as long as the provider asks for. Raises for a wait that is too long for us."""
        after = _retry_after_s(response)
        if response.status_code == _TOO_MANY and after > _LONGEST_RETRY_AFTER_S:
            raise error_for(self.account, f"answer for {after:.0f} s", response)
        if after and (response.status_code == _TOO_MANY or response.status_code in _PASSING):
            self._bucket.pause(min(after, _LONGEST_RETRY_AFTER_S))
        return response.status_code == _TOO_MANY

    def _back_off(self, attempt: int) -> None:
        # Full jitter: many hosts that failed together must not come back together.
        longest = min(_LONGEST_BACKOFF_S, self._waiting.pace.backoff_s * 2**attempt)
        self._waiting.sleep(random.uniform(0, longest))  # noqa: S311 - spreads requests, guards nothing

    def _parse(self, what: str, document: Any, model: type[_Model]) -> _Model:
        self._check_refusal(what, document)
        try:
            return model.model_validate(document)
        except ValidationError as error:
            fields = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise HostError(
                f"{self.account.provider} could not {what}: its answer has another shape than we know",
                details=fields,
                resolution="see whether the provider changed its API, and tests/contracts for what this driver reads",
            ) from None

    def _check_refusal(self, what: str, document: Any) -> None:
        words = self._find_refusal(document)
        if words is not None:
            raise HostError(
                f"{self.account.provider} could not {what}: it refused the request",
                details=redact(words),
                resolution="the API's own words above say what does not fit this server",
            )

    def _given_up(self, what: str, trouble: str) -> QtradeError:
        return HostError(
            f"{self.account.provider} could not {what}: no usable answer from {self.account.url} in {_TRIES} tries",
            details=redact(trouble),
            resolution="check the network and the provider's status page, then give the same command again",
        )


def _json(response: httpx.Response) -> Any:
    """Return the document, or None for what is no JSON object or list: proxies answer with pages of their own."""
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict | list) else None


def _retry_after_s(response: httpx.Response) -> float:
    """Return the seconds that Retry-After asks for; its other form, a date, is taken for half a minute."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 30.0 if value else 0.0


def _describe(error: httpx.TransportError) -> str:
    return redact(f"{type(error).__name__}: {error}".rstrip(": "))
