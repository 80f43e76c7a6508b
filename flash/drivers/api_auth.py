"""How drivers log in to providers. A credential is read at the first request, hidden from all output, and sent in a header only."""

import time
from collections.abc import Callable, Generator
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from flash.drivers.api_errors import Account, error_for, words_of
from qtrade.errors import BadInput
from qtrade.redaction import register_secret

_RENEW_BEFORE_S = 30.0
_Flow = Generator[httpx.Request, httpx.Response, None]


class NoTokenError(httpx.TransportError):
    """The token endpoint gave none this time. The request that needed one was not carried out."""


class BearerToken(httpx.Auth):
    """A token that stays the same."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._token: str | None = None

    def auth_flow(self, request: httpx.Request) -> _Flow:
        """Send the token along."""
        if self._token is None:
            self._token = self._read()
            register_secret(self._token)
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class _Token(BaseModel):
    """RFC 6749, 5.1."""

    access_token: str
    expires_in: float = 60.0


class ClientCredentials(httpx.Auth):
    """OAuth2 client credentials (RFC 6749, 4.4; the client logs in by HTTP Basic, 2.3.1).

    A token is renewed before it ends, and once more when the API calls it wrong. Raises `BadInput` for a wrong client.
    """

    requires_response_body = True

    def __init__(
        self,
        account: Account,
        url: str,
        client_id: str,
        read_secret: Callable[[], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._url = url
        self._client_id = client_id
        self._read_secret = read_secret
        self._clock = clock
        self._token = ""
        self._ends_at = 0.0

    def auth_flow(self, request: httpx.Request) -> _Flow:
        """Send a valid token along."""
        if not self._token or self._clock() > self._ends_at - _RENEW_BEFORE_S:
            yield from self._renew()
        request.headers["Authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            yield from self._renew()
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request

    def _renew(self) -> _Flow:
        secret = self._read_secret()
        register_secret(secret)
        login = httpx.BasicAuth(quote(self._client_id, safe=""), quote(secret, safe=""))
        form = {"grant_type": "client_credentials"}
        request = httpx.Request("POST", self._url, data=form, headers={"Accept": "application/json"})
        response = yield next(login.auth_flow(request))
        if response.status_code in (400, 401, 403):
            raise BadInput(
                f"{self._account.provider} gives no token to client {self._client_id}",
                details=words_of(response),
                resolution=f"check driver.client_id and {self._account.credential}",
            )
        if not response.is_success:
            raise NoTokenError(error_for(self._account, "give a token", response).brief)
        try:
            token = _Token.model_validate_json(response.content)
        except ValidationError:
            # Pydantic's own words would quote the answer, and with it a token.
            raise NoTokenError(f"{self._url} answered with something that is no token") from None
        register_secret(token.access_token)
        self._token, self._ends_at = token.access_token, self._clock() + token.expires_in
