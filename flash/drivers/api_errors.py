"""What went wrong at a provider's API, in our errors: each names the part of the host manifest, or the person, that can mend it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from qtrade.errors import BadInput, HostError, QtradeError, Refused
from qtrade.redaction import redact

_LONGEST_WORDS = 400


@dataclass(frozen=True)
class Account:
    """Whose API it is, and what of the host manifest leads there. `credential` and `server` name the fields, for errors."""

    provider: str
    url: str
    credential: str
    server: str


def error_for(account: Account, what: str, response: httpx.Response) -> QtradeError:
    """Return the error for an answer that says no; `what` completes "could not"."""
    kind: type[QtradeError] = HostError
    match response.status_code:
        case 401 | 403:
            kind, reason = BadInput, "it does not accept the credential"
            cure = f"check {account.credential}: is it of this account, still valid, and allowed to change servers?"
        case 404:
            kind, reason = BadInput, f"it knows no such server ({account.server})"
            cure = f"correct {account.server}, or use a credential of the project that the server belongs to"
        case 409 | 423:
            kind, reason = Refused, "the server is locked or busy"
            cure = "see who locked it or what runs there; once that has ended, give the same command again"
        case 429:
            reason = "too many requests from this account"
            cure = "wait for some minutes and give the same command again; see what else uses the account"
        case status if 300 <= status < 400:
            reason = f"it sends us elsewhere ({response.headers.get('location', 'without saying where')})"
            cure = "correct driver.url; redirects are not followed, as the credential would go along"
        case status if status >= 500:
            reason, cure = "its API fails", "see the provider's status page, and give the same command again later"
        case _:
            reason, cure = "it refused the request", "the API's own words say what does not fit this server"
    return kind(
        redact(f"{account.provider} could not {what}: {reason} ({response.status_code})"),
        details=words_of(response),
        resolution=cure,
    )


def words_of(response: httpx.Response) -> str:
    """Return what the API itself says, shortened and without secrets; a page meant for a browser gives its text."""
    try:
        said = "; ".join(dict.fromkeys(_messages(json.loads(response.content))))
    except (ValueError, RecursionError):
        said = " ".join(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", response.text, flags=re.DOTALL).split())
    return redact(said)[:_LONGEST_WORDS]


def _messages(document: Any) -> Iterator[str]:
    # JSON:API: errors[].detail; TeraSwitch, Cherry, phoenixNAP: message and validationErrors; OAuth2: error, error_description.
    if isinstance(document, str):
        yield document
    elif isinstance(document, list):
        for item in document:
            yield from _messages(item)
    elif isinstance(document, dict):
        for name in ("detail", "title", "message", "error_description", "error", "errors", "validationErrors"):
            if document.get(name):
                yield from _messages(document[name])
