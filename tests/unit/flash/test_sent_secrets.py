"""What a machine remembers of secrets that it sent: enough to send them once, nothing to guess them by."""

import hashlib
import hmac
from pathlib import Path

import pytest

from flash.sent_secrets import SentSecrets
from qtrade.signing import ensure_key

pytestmark = pytest.mark.unit

VALUES = {"token": b"1234", "key": b"other"}
STAMPS = {"token": "t1", "key": "k1"}


@pytest.fixture
def notes(tmp_path) -> SentSecrets:
    made = SentSecrets(tmp_path / "sent/rpc-1.json", "rpc-1", ensure_key(tmp_path / "keys", "job"))
    made.note(VALUES, STAMPS)
    return made


def test_what_the_host_has_is_not_sent(notes) -> None:
    assert notes.reasons(VALUES, STAMPS) == {}


@pytest.mark.parametrize(
    ("values", "stamps", "reason"),
    [
        ({"token": b"12345"}, STAMPS, "changed"),
        (VALUES, {**STAMPS, "token": "t2"}, "this machine did not send it last"),
        (VALUES, {"key": "k1"}, "the host does not have it"),
        ({"token": b"1234"}, None, "the host does not say what it has"),
    ],
)
def test_the_reason_why_one_is_sent(notes, values, stamps, reason) -> None:
    assert notes.reasons(values, stamps) == {"token": reason}


def test_what_a_host_did_not_confirm_is_not_noted(notes) -> None:
    notes.note({"fresh": b"x"}, {})
    assert notes.reasons({"fresh": b"x"}, {"fresh": "f1"}) == {"fresh": "this machine did not send it last"}


def test_nobody_can_check_a_guess_by_the_notes(notes, tmp_path) -> None:
    """No plain digest of the value is there, also not with names or hosts; and another key makes another mark."""
    text = notes.path.read_text()
    for algorithm in ("md5", "sha1", "sha256", "sha512"):
        for guess in (b"1234", b"token1234", b"rpc-1token1234", b"token\x001234"):
            assert hashlib.new(algorithm, guess).hexdigest() not in text
            assert hmac.new(b"rpc-1", guess, algorithm).hexdigest() not in text
    other = SentSecrets(notes.path, "rpc-1", ensure_key(tmp_path / "others", "job"))
    assert set(other.reasons(VALUES, STAMPS)) == {"token", "key"}
    assert notes.path.stat().st_mode & 0o777 == 0o600


def test_notes_of_one_host_say_nothing_of_another(notes) -> None:
    other = SentSecrets(notes.path, "rpc-2", notes.key)
    assert set(other.reasons(VALUES, STAMPS)) == {"token", "key"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"secrets": null}'])
def test_notes_that_cannot_be_read_are_none(notes, text) -> None:
    Path(notes.path).write_text(text)
    assert set(notes.reasons(VALUES, STAMPS)) == {"token", "key"}
