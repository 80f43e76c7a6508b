"""Secrets never reach people."""

import base64
import json
from urllib.parse import quote

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


def test_a_secret_within_a_secret_leaves_nothing_behind() -> None:
    register_secret("abcdefgh")
    register_secret("abcdefghijkl")
    assert redact("abcdefghijkl abcdefgh") == "*** ***"


def test_short_values_and_other_text_stay() -> None:
    register_secret("on")
    register_secret("")
    assert redact("nothing on display") == "nothing on display"
