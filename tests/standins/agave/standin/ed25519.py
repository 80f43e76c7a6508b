"""Ed25519 signatures (RFC 8032, section 5.1) in plain Python: hosts have no library for them, and one tower a slot is little."""

import hashlib

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def recover_x(y):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P)
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * ROOT % P
    return x if x % 2 == 0 else P - x


Y = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(Y), Y, 1, recover_x(Y) * Y % P)


def add(one, other):
    a, b = (one[1] - one[0]) * (other[1] - other[0]), (one[1] + one[0]) * (other[1] + other[0])
    c, d = 2 * one[3] * other[3] * D, 2 * one[2] * other[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(number, point):
    found = (0, 1, 1, 0)
    while number:
        if number & 1:
            found = add(found, point)
        point = add(point, point)
        number >>= 1
    return found


def compress(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def expand(seed):
    digest = hashlib.sha512(seed).digest()
    number = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return number, digest[32:]


def public_key(seed):
    """Return the 32 bytes of the public key."""
    return compress(multiply(expand(seed)[0], BASE))


def sign(seed, message):
    """Return the signature, 64 bytes."""
    number, prefix = expand(seed)
    key = compress(multiply(number, BASE))
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % Q
    point = compress(multiply(nonce, BASE))
    challenge = int.from_bytes(hashlib.sha512(point + key + message).digest(), "little") % Q
    return point + ((nonce + challenge * number) % Q).to_bytes(32, "little")
