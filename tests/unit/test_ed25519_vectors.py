"""The bundled Ed25519 verifier on the vectors of RFC 8032 section 7.1 and on the edge cases that Wycheproof collects."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flash.agent import ed25519

pytestmark = pytest.mark.unit

L = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19

RFC8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
            "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), RFC8032)
def test_rfc8032_vectors_verify(key: str, message: str, signature: str) -> None:
    assert ed25519.verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_one_flipped_bit_is_refused(position: int) -> None:
    key, message, signature = (bytes.fromhex(part) for part in RFC8032[2])
    altered = bytearray(signature)
    altered[position] ^= 1
    assert not ed25519.verify(key, message, bytes(altered))


def test_other_message_and_other_key_are_refused() -> None:
    key, message, signature = (bytes.fromhex(part) for part in RFC8032[1])
    assert not ed25519.verify(key, message + b"x", signature)
    assert not ed25519.verify(bytes.fromhex(RFC8032[0][0]), message, signature)


@pytest.mark.parametrize("times", [1, 2, 8])
def test_scalar_of_l_or_more_is_refused(times: int) -> None:
    """Adding L keeps the equation true: a verifier that takes it lets signatures be altered."""
    key, message, signature = (bytes.fromhex(part) for part in RFC8032[0])
    scalar = int.from_bytes(signature[32:], "little") + times * L
    assert not ed25519.verify(key, message, signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 32, 63, 65, 96])
def test_wrong_sizes_are_refused(size: int) -> None:
    key, message, signature = (bytes.fromhex(part) for part in RFC8032[0])
    assert not ed25519.verify(key, message, (signature * 2)[:size])
    assert not ed25519.verify((key * 4)[:size] if size != 32 else b"", message, signature)


@pytest.mark.parametrize("y", [P, P + 1, 2**255 - 1])
def test_points_that_are_not_canonical_are_refused(y: int) -> None:
    _, message, signature = (bytes.fromhex(part) for part in RFC8032[0])
    encoded = y.to_bytes(32, "little")
    assert not ed25519.verify(encoded, message, signature)
    assert not ed25519.verify(bytes.fromhex(RFC8032[0][0]), message, encoded + signature[32:])


def test_negative_zero_is_refused() -> None:
    """x = 0 with the sign bit set is a second way to write the same point."""
    encoded = (1 | 1 << 255).to_bytes(32, "little")
    assert not ed25519.verify(encoded, b"", encoded + bytes(32))


@pytest.mark.parametrize("y", [1, P - 1, 0])
def test_keys_of_small_order_sign_nothing(y: int) -> None:
    """With such a key and R = the identity, s = 0 would fit any message."""
    identity = (1).to_bytes(32, "little")
    assert not ed25519.verify(y.to_bytes(32, "little"), b"anything", identity + bytes(32))


def test_zeros_and_ones_are_refused() -> None:
    key = bytes.fromhex(RFC8032[0][0])
    assert not ed25519.verify(key, b"", bytes(64))
    assert not ed25519.verify(key, b"", b"\xff" * 64)


def test_agrees_with_another_implementation() -> None:
    for seed in range(8):
        private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        message = bytes(range(seed * 7))
        raw = private.public_key().public_bytes_raw()
        assert ed25519.verify(raw, message, private.sign(message))


def test_pem_gives_the_raw_key() -> None:
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    assert ed25519.raw_key(pem) == public.public_bytes_raw()
    assert ed25519.raw_key("") is None
    assert ed25519.raw_key(pem.replace("MCow", "MCox")) is None
