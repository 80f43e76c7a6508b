"""Secrets never reach people."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, quote_plus

import pytest

from qtrade.redaction import redact, register_secret

pytestmark = pytest.mark.unit

SECRET = 'pa"ss\\wörd/ 7&8'


@pytest.fixture(autouse=True)
def _registered() -> None:
    register_secret(SECRET)


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(SECRET.encode()).decode().rstrip("="),
        json.dumps(SECRET)[1:-1],
        quote(SECRET, safe=""),
    ],
    ids=["raw", "base64", "base64 without padding", "json", "url"],
)
def test_every_spelling_of_a_secret_is_hidden(shown) -> None:
    assert redact(f"<{shown}>") == "<***>"


@pytest.mark.parametrize("before", range(4))
def test_a_secret_is_hidden_within_what_else_is_encoded_with_it(before) -> None:
    """As `user:password` of HTTP's Basic authentication."""
    encoded = base64.b64encode(b"u" * before + SECRET.encode() + b":more").decode()
    shown = redact(f"<{encoded}>")
    assert "***" in shown
    assert SECRET.encode()[4:-4] not in base64.b64decode(
        shown.strip("<>").replace("***", "A" * 24) + "==", validate=False
    )


@pytest.mark.parametrize(
    "shown",
    [
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        quote(SECRET, safe="").replace("%C3%B6", "%c3%b6").replace("%2F", "%2f").replace("%26", "%26"),
        quote_plus(SECRET),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
    ids=["json of other programs", "json with slashes", "url in small letters", "form", "base64 of URLs"],
)
def test_other_programs_spellings_are_hidden_too(shown) -> None:
    assert SECRET not in redact(f"<{shown}>")


def test_a_value_of_several_lines_is_hidden_line_by_line() -> None:
    lines = [
        "-----BEGIN PRIVATE KEY-----",
        "MC4CAQAwBQYDK2VwBCIEIHRoaXMg",
        "aXMgYSBzZWNyZXQga2V5IQ",
        "-----END PRIVATE KEY-----",
    ]
    register_secret("\n".join(lines) + "\n")
    assert [redact(line) for line in lines] == [lines[0], "***", "***", lines[3]]


def test_a_secret_within_a_secret_leaves_nothing_behind() -> None:
    register_secret("abcdefgh")
    register_secret("abcdefghijkl")
    assert redact("abcdefghijkl abcdefgh") == "*** ***"


def test_threads_register_and_redact_side_by_side() -> None:
    def work(number: int) -> str:
        value = f"secret-of-thread-{number:04}"
        register_secret(value)
        return redact(value)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(300))) == {"***"}


def test_short_values_and_other_text_stay() -> None:
    register_secret("on")
    register_secret("")
    assert redact("nothing on display") == "nothing on display"
