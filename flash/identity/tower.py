"""Read Agave's tower file: what was voted last, and that the identity itself has signed it.

The layout is that of core/src/consensus/tower_storage.rs and tower1_14_11.rs (bincode: little endian, lengths of 8 bytes), which Agave
has written since 1.14: a version, the signature, then the signed bytes, in which the lockouts follow on fields of fixed size.
"""

import hashlib
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_CURRENT = 1
_SIGNATURE = 64
_KEY = 32
# Before the lockouts: node, threshold depth and size, then of the vote state node, withdrawer and commission.
_FIXED = _KEY + 8 + 8 + _KEY + _KEY + 1
_LOCKOUT = struct.Struct("<QI")
_MOST_LOCKOUTS = 64


class UnreadableTower(ValueError):
    """A file is no tower of that identity."""


@dataclass(frozen=True)
class Tower:
    """A tower file. `last_vote` is a slot."""

    sha256: str
    last_vote: int


def read_tower(content: bytes, identity: str) -> Tower:
    """Read the tower of `identity` (base58). Raises `UnreadableTower` for another layout, another signer, or no vote in it."""
    try:
        data = _signed_bytes(content, decode_base58(identity))
        if data[:_KEY] != decode_base58(identity):
            raise UnreadableTower("it is the tower of another identity")
        return Tower(hashlib.sha256(content).hexdigest(), _last_vote(data))
    except struct.error as error:
        raise UnreadableTower("it is cut off") from error


def _signed_bytes(content: bytes, key: bytes) -> bytes:
    (version,) = struct.unpack_from("<I", content, 0)
    if version != _CURRENT:
        raise UnreadableTower(f"it is of version {version}, not {_CURRENT}")
    signature = content[4 : 4 + _SIGNATURE]
    (length,) = struct.unpack_from("<Q", content, 4 + _SIGNATURE)
    data = content[4 + _SIGNATURE + 8 :]
    if len(data) != length:
        raise UnreadableTower(f"it holds {len(data)} bytes, not {length}")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise UnreadableTower("its signature is not the identity's") from error
    return data


def _last_vote(data: bytes) -> int:
    (count,) = struct.unpack_from("<Q", data, _FIXED)
    if count > _MOST_LOCKOUTS:
        raise UnreadableTower(f"it holds {count} lockouts")
    start = _FIXED + 8
    slots = [_LOCKOUT.unpack_from(data, start + number * _LOCKOUT.size)[0] for number in range(count)]
    if not slots:
        raise UnreadableTower("it holds no vote")
    return int(max(slots))


def encode_base58(content: bytes) -> str:
    """Return bytes as Solana writes keys."""
    number, text = int.from_bytes(content, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return "1" * (len(content) - len(content.lstrip(b"\0"))) + text


def decode_base58(text: str) -> bytes:
    """Return the 32 bytes of a key. Raises `UnreadableTower` where it is none."""
    number = 0
    for letter in text:
        number = number * 58 + _ALPHABET.index(letter)
    try:
        return number.to_bytes(_KEY, "big")
    except OverflowError as error:
        raise UnreadableTower(f"{text} is no key") from error


def address_of(keypair: bytes) -> str:
    """Return the public key (base58) of 64 bytes, of which the first 32 are the seed. Raises `ValueError` where they do not fit."""
    public = Ed25519PrivateKey.from_private_bytes(keypair[:_KEY]).public_key().public_bytes_raw()
    if keypair[_KEY:] != public:
        raise ValueError("the two halves of the keypair do not belong together")
    return encode_base58(public)
