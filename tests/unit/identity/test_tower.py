"""Towers are read only if they are whole, of the identity, and signed by it."""

import hashlib

import pytest

from flash.identity.tower import UnreadableTower, address_of, decode_base58, encode_base58, read_tower
from tests.fakes.towers import address, make_keypair, make_tower

pytestmark = pytest.mark.unit

KEY, OTHER = make_keypair(1), make_keypair(2)


def test_the_last_vote_and_the_digest() -> None:
    content = make_tower(KEY, [7, 11, 12, 40])
    tower = read_tower(content, address(KEY))
    assert (tower.last_vote, tower.sha256) == (40, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (make_tower(KEY, [5], signer=OTHER), "signature"),
        (make_tower(OTHER, [5]), "signature"),
        (make_tower(KEY, [5], version=0), "version 0"),
        (make_tower(KEY, []), "no vote"),
        (make_tower(KEY, [5])[:-1], "holds"),
        (make_tower(KEY, [5])[:40], "cut off"),
        (b"", "cut off"),
        (b"\x01", "cut off"),
    ],
)
def test_anything_else_is_refused(content, said) -> None:
    with pytest.raises(UnreadableTower, match=said):
        read_tower(content, address(KEY))


def test_one_changed_byte_is_noticed_wherever_it_is() -> None:
    content = make_tower(KEY, [5, 6])
    for place in range(len(content)):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        with pytest.raises(UnreadableTower):
            read_tower(changed, address(KEY))


def test_keys_are_written_as_solana_does() -> None:
    # The system program's address is 32 zeros, and that of the vote program is in Solana's documentation.
    assert encode_base58(bytes(32)) == "1" * 32
    vote_program = "Vote111111111111111111111111111111111111111"
    assert encode_base58(decode_base58(vote_program)) == vote_program
    assert address_of(KEY) == address(KEY)
    with pytest.raises(ValueError, match="belong together"):
        address_of(KEY[:32] + OTHER[32:])
