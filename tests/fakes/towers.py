"""Tower files as Agave writes them, made from the struct definitions (not from the reader): core/src/consensus/tower1_14_11.rs."""

import hashlib
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flash.identity.tower import encode_base58


def make_keypair(number: int) -> bytes:
    """Return the 64 bytes of a keypair; the same number gives the same."""
    seed = hashlib.sha256(f"keypair {number}".encode()).digest()
    return seed + Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def address(keypair: bytes) -> str:
    return encode_base58(keypair[32:])


def make_tower(keypair: bytes, slots: list[int], *, signer: bytes | None = None, version: int = 1) -> bytes:
    """Return the file of a tower with lockouts on `slots`, signed by `signer` where it is to be somebody else's."""
    node = keypair[32:]
    data = node + struct.pack("<Qd", 8, 2 / 3) + node + bytes(32) + b"\x00"
    data += struct.pack("<Q", len(slots))
    for place, slot in enumerate(slots):
        data += struct.pack("<QI", slot, len(slots) - place)
    data += b"\x01" + struct.pack("<Q", max(slots[0] - 1, 0)) if slots else b"\x00"
    data += struct.pack("<Q", 0)  # authorized voters
    data += (bytes(32) + struct.pack("<QQ", 0, 0)) * 32 + struct.pack("<Q?", 31, True)  # prior voters
    data += struct.pack("<Q", 0) + struct.pack("<Qq", slots[-1] if slots else 0, 0)  # epoch credits, last timestamp
    data += (
        struct.pack("<IQ", 0, len(slots)) + b"".join(struct.pack("<Q", slot) for slot in slots) + bytes(33)
    )  # last vote
    data += struct.pack("<Qq", 0, 0)
    signature = Ed25519PrivateKey.from_private_bytes((signer or keypair)[:32]).sign(data)
    return struct.pack("<I", version) + signature + struct.pack("<Q", len(data)) + data
