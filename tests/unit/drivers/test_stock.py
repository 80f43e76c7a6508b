"""Choosing a stock system."""

import pytest

from flash.drivers.stock import is_same_key, newest_debian
from qtrade.errors import HostError

pytestmark = pytest.mark.unit


def test_the_newest_plain_debian() -> None:
    names = {
        "a": "Ubuntu 24.04 LTS",
        "b": "Debian 12 64bit",
        "c": "Debian 13 (64 bit)",
        "d": "Debian 14 with Docker",
        "e": "debian 9",
    }
    assert newest_debian("Somewhere", names) == "c"


def test_none_is_an_error_with_what_there_is() -> None:
    with pytest.raises(HostError, match="Somewhere offers no Debian") as caught:
        newest_debian("Somewhere", {"a": "Ubuntu 24.04", "b": "CentOS 9"})
    assert "CentOS 9, Ubuntu 24.04" in caught.value.details


def test_keys_are_compared_without_their_comments() -> None:
    assert is_same_key("ssh-ed25519 AAAA me@here", "ssh-ed25519 AAAA")
    assert not is_same_key("ssh-ed25519 AAAA", "ssh-ed25519 AAAB")
