"""What gRPC needs of HTTP/2 (RFC 9113) and of Protocol Buffers: frames, length-prefixed messages, fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
INITIAL_WINDOW = 65535
INITIAL_WINDOW_SETTING = 4
MAX_FRAME = 16384
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}


class Http2Error(ValueError):
    """The other side does not speak HTTP/2, or not gRPC over it."""


def make_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def parse_head(head: bytes) -> tuple[int, int, int, int]:
    """Return (payload bytes, kind, flags, stream) of the nine bytes before a payload. Raises `Http2Error`."""
    size = int.from_bytes(head[:3], "big")
    if size > MAX_FRAME:
        raise Http2Error(f"a frame of {size} bytes")
    return size, head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF


def strip_frame(kind: int, flags: int, payload: bytes) -> bytes:
    """Return the payload of HEADERS or DATA without padding and priority."""
    end = len(payload)
    start = 0
    if flags & PADDED:
        start, end = 1, end - payload[0]
    if kind == HEADERS and flags & PRIORITY:
        start += 5
    return payload[start:end]


def parse_settings(payload: bytes) -> dict[int, int]:
    """Return the settings of a SETTINGS frame by their ids."""
    pairs = (payload[at : at + 6] for at in range(0, len(payload) - 5, 6))
    return {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}


def make_message(body: bytes) -> bytes:
    """Return a gRPC message, uncompressed."""
    return b"\x00" + len(body).to_bytes(4, "big") + body


class MessageReader:
    """Takes the data of a stream apart into gRPC messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that `data` completes. Raises `Http2Error` for a compressed one."""
        self._rest += data
        while len(self._rest) >= 5:
            size = int.from_bytes(self._rest[1:5], "big")
            if self._rest[0]:
                raise Http2Error("a compressed message, though none was asked for")
            if len(self._rest) < 5 + size:
                return
            body, self._rest = self._rest[5 : 5 + size], self._rest[5 + size :]
            yield body


def write_varint(value: int) -> bytes:
    """Return a number of Protocol Buffers."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def write_field(number: int, value: int | bytes) -> bytes:
    """Return one field: a number, or bytes (a string, a message)."""
    if isinstance(value, int):
        return write_varint(number << 3 | _VARINT) + write_varint(value)
    return write_varint(number << 3 | _BYTES) + write_varint(len(value)) + value


def read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of each field of a message. Raises `Http2Error`."""
    at = 0
    try:
        while at < len(data):
            tag, at = _read_varint(data, at)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                value, at = _read_varint(data, at)
                yield number, value
                continue
            size = _FIXED.get(kind, 0)
            if kind == _BYTES:
                size, at = _read_varint(data, at)
            elif not size:
                raise Http2Error(f"wire type {kind}")
            if at + size > len(data):
                raise Http2Error("a message is cut off")
            yield number, data[at : at + size]
            at += size
    except IndexError:
        raise Http2Error("a message is cut off") from None


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
