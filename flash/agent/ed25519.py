"""Ed25519 verification (RFC 8032) with plain integers: hosts and rescue systems have no library for it.

Only verification, of public data: nothing here needs to run in constant time.
"""

import base64
import binascii
import hashlib
from typing import Optional, Tuple

Point = Tuple[int, int, int, int]

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SQRT_M1 = pow(2, (_P - 1) // 4, _P)
_IDENTITY: Point = (0, 1, 1, 0)
# The fixed head of an Ed25519 SubjectPublicKeyInfo (RFC 8410); the 32 bytes of the key follow it.
_SPKI_HEAD = bytes.fromhex("302a300506032b6570032100")


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether `signature` (64 bytes) of `message` is by `public_key` (32 bytes).

    Refused are scalars of L or more (malleability), points that are not canonically encoded, and keys of small order.
    """
    if len(public_key) != 32 or len(signature) != 64:
        return False
    key = _decode(public_key)
    commitment = _decode(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or scalar >= _L or _is_identity(_multiply(8, key)):
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    challenge = int.from_bytes(digest, "little") % _L
    return _is_equal(_multiply(scalar, _BASE), _add(commitment, _multiply(challenge, key)))


def raw_key(pem: str) -> Optional[bytes]:
    """Return the 32 bytes of a PEM public key, None when it is not one of Ed25519."""
    lines = pem.strip().splitlines()
    if len(lines) < 3 or lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
        return None
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(der) != 44 or not der.startswith(_SPKI_HEAD):
        return None
    return der[len(_SPKI_HEAD) :]


def pem(public_key: bytes) -> bytes:
    """Return a raw key as PEM, as openssl reads it."""
    body = base64.b64encode(_SPKI_HEAD + public_key)
    return b"-----BEGIN PUBLIC KEY-----\n" + body + b"\n-----END PUBLIC KEY-----\n"


def key_id(public_key: bytes) -> str:
    """Return the key id: SHA-256 (hex) of the 32 raw bytes."""
    return hashlib.sha256(public_key).hexdigest()


def _decode(encoded: bytes) -> Optional[Point]:
    y = int.from_bytes(encoded, "little")
    sign = y >> 255
    y &= (1 << 255) - 1
    if y >= _P:
        return None
    x = _recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % _P)


def _recover_x(y: int, sign: int) -> Optional[int]:
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    if square == 0:
        return None if sign else 0
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _SQRT_M1 % _P
    if (x * x - square) % _P:
        return None
    return x if x & 1 == sign else _P - x


def _add(p: Point, q: Point) -> Point:
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _multiply(scalar: int, point: Point) -> Point:
    result = _IDENTITY
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _is_equal(p: Point, q: Point) -> bool:
    return (p[0] * q[2] - q[0] * p[2]) % _P == 0 and (p[1] * q[2] - q[1] * p[2]) % _P == 0


def _is_identity(p: Point) -> bool:
    return _is_equal(p, _IDENTITY)


def _base_point() -> Point:
    y = 4 * pow(5, _P - 2, _P) % _P
    x = _recover_x(y, 0)
    if x is None:  # pragma: no cover - a constant of the curve
        raise ArithmeticError("the base point is not on the curve")
    return (x, y, 1, x * y % _P)


_BASE = _base_point()
