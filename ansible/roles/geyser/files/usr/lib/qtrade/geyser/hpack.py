"""HPACK, the header compression of HTTP/2 (RFC 7541): decoding in full, encoding as plain literals."""

from __future__ import annotations

Header = tuple[str, str]

# Appendix A. An entry without a value stands for the name alone.
_STATIC = (
    ":authority | :method=GET | :method=POST | :path=/ | :path=/index.html | :scheme=http | :scheme=https | "
    ":status=200 | :status=204 | :status=206 | :status=304 | :status=400 | :status=404 | :status=500 | "
    "accept-charset | accept-encoding=gzip, deflate | accept-language | accept-ranges | accept | "
    "access-control-allow-origin | age | allow | authorization | cache-control | content-disposition | "
    "content-encoding | content-language | content-length | content-location | content-range | content-type | "
    "cookie | date | etag | expect | expires | from | host | if-match | if-modified-since | if-none-match | "
    "if-range | if-unmodified-since | last-modified | link | location | max-forwards | proxy-authenticate | "
    "proxy-authorization | range | referer | refresh | retry-after | server | set-cookie | "
    "strict-transport-security | transfer-encoding | user-agent | vary | via | www-authenticate"
)
STATIC: tuple[Header, ...] = tuple(
    (name, value) for name, _, value in (item.partition("=") for item in _STATIC.split(" | "))
)
# Appendix B as the length of each byte's code: the code is canonical, so codes follow from lengths. In runs of (how many, bits).
_LENGTHS = (
    "1:13 1:23 7:28 1:24 1:30 2:28 1:30 8:28 1:30 9:28 1:6 2:10 1:12 1:13 1:6 1:8 1:11 2:10 1:8 1:11 1:8 3:6 3:5 "
    "7:6 1:7 1:8 1:15 1:6 1:12 1:10 1:13 1:6 22:7 1:8 1:7 1:8 1:13 1:19 1:13 1:14 1:6 1:15 1:5 1:6 1:5 1:6 1:5 "
    "3:6 1:5 2:7 3:6 1:5 1:6 1:7 1:6 2:5 1:6 5:7 1:15 1:11 1:14 1:13 1:28 1:20 1:22 2:20 3:22 1:23 1:22 5:23 1:24 "
    "1:23 2:24 1:22 1:23 1:24 4:23 1:21 1:22 1:23 1:22 2:23 1:24 1:22 1:21 1:20 2:22 2:23 1:21 1:23 2:22 1:24 "
    "1:21 1:22 2:23 2:21 1:22 1:21 1:23 1:22 2:23 1:20 3:22 1:23 2:22 1:23 2:26 1:20 1:19 1:22 1:23 1:22 1:25 "
    "3:26 2:27 1:26 1:24 1:25 1:19 1:21 1:26 2:27 1:26 1:27 1:24 2:21 2:26 1:28 3:27 1:20 1:24 1:20 1:21 1:22 "
    "2:21 1:23 2:22 2:25 2:24 1:26 1:23 1:26 1:27 2:26 5:27 1:28 5:27 1:26"
)
_ENTRY_OVERHEAD, _TABLE_SIZE = 32, 4096


def _make_codes() -> dict[tuple[int, int], int]:
    """Return the byte behind each code, by (length, code)."""
    lengths = [int(bits) for count, bits in (run.split(":") for run in _LENGTHS.split()) for _ in range(int(count))]
    codes, code, last = {}, 0, 0
    for bits, byte in sorted((bits, byte) for byte, bits in enumerate(lengths)):
        code <<= bits - last
        codes[bits, code] = byte
        code, last = code + 1, bits
    return codes


_CODES = _make_codes()


class HpackError(ValueError):
    """Bytes that no HPACK encoder writes."""


def decode_huffman(data: bytes) -> bytes:
    """Return the text behind a Huffman-coded string. Raises `HpackError`."""
    found, code, bits = bytearray(), 0, 0
    for byte in data:
        for shift in range(7, -1, -1):
            code, bits = code << 1 | byte >> shift & 1, bits + 1
            if (bits, code) in _CODES:
                found.append(_CODES[bits, code])
                code, bits = 0, 0
    if bits > 7 or code != (1 << bits) - 1:
        raise HpackError("a Huffman code is cut off")
    return bytes(found)


class Decoder:
    """The decoding side of one connection: its dynamic table lives as long as the connection."""

    def __init__(self) -> None:
        self._entries: list[Header] = []
        self._limit = _TABLE_SIZE

    def decode(self, block: bytes) -> list[Header]:
        """Return the headers of a block, in order. Raises `HpackError`."""
        headers: list[Header] = []
        at = 0
        try:
            while at < len(block):
                first = block[at]
                if first & 0x80:
                    index, at = _read_integer(block, at, 7)
                    headers.append(self._entry(index))
                elif first & 0x40:
                    header, at = self._read_literal(block, at, 6)
                    self._remember(header)
                    headers.append(header)
                elif first & 0x20:
                    self._limit, at = _read_integer(block, at, 5)
                    self._evict()
                else:
                    header, at = self._read_literal(block, at, 4)
                    headers.append(header)
        except IndexError:
            raise HpackError("a header block is cut off, or names an entry that is not there") from None
        return headers

    def _entry(self, index: int) -> Header:
        if index == 0:
            raise HpackError("index 0")
        return STATIC[index - 1] if index <= len(STATIC) else self._entries[index - len(STATIC) - 1]

    def _read_literal(self, block: bytes, at: int, prefix: int) -> tuple[Header, int]:
        index, at = _read_integer(block, at, prefix)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _read_string(block, at)
        value, at = _read_string(block, at)
        return (name, value), at

    def _remember(self, header: Header) -> None:
        self._entries.insert(0, header)
        self._evict()

    def _evict(self) -> None:
        while sum(len(name) + len(value) + _ENTRY_OVERHEAD for name, value in self._entries) > self._limit:
            self._entries.pop()


def encode(headers: list[Header]) -> bytes:
    """Return a header block of literals that no table remembers."""
    return b"".join(b"\x00" + _write_string(name) + _write_string(value) for name, value in headers)


def _read_integer(data: bytes, at: int, prefix: int) -> tuple[int, int]:
    full = (1 << prefix) - 1
    value, at, shift = data[at] & full, at + 1, 0
    if value < full:
        return value, at
    while True:
        byte, at = data[at], at + 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > 28:
            raise HpackError("an integer is too long")


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    is_coded = bool(data[at] & 0x80)
    size, at = _read_integer(data, at, 7)
    raw = data[at : at + size]
    if len(raw) < size:
        raise HpackError("a string is cut off")
    return (decode_huffman(raw) if is_coded else raw).decode("latin-1"), at + size


def _write_string(text: str) -> bytes:
    raw = text.encode("latin-1")
    size = len(raw)
    if size < 0x7F:
        return bytes([size]) + raw
    head, rest = bytearray([0x7F]), size - 0x7F
    while rest >= 0x80:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(head) + bytes([rest]) + raw
