"""HPACK by the examples of RFC 7541, appendix C."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[3] / "ansible/roles/geyser/files/usr/lib/qtrade/geyser"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hpack, http2 = load("hpack"), load("http2")

REQUEST = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
SECURE = [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), (":authority", "www.example.com")]
THREE = [REQUEST, [*REQUEST, ("cache-control", "no-cache")], [*SECURE, ("custom-key", "custom-value")]]
PLAIN = (
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
)
CODED = (
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
)


@pytest.mark.parametrize("blocks", [PLAIN, CODED], ids=["C.3", "C.4"])
def test_requests_of_one_connection_share_its_table(blocks: tuple[str, ...]) -> None:
    decoder = hpack.Decoder()
    assert [decoder.decode(bytes.fromhex(block)) for block in blocks] == THREE


def test_the_code_is_complete() -> None:
    """Every byte has a code, and with the end-of-string symbol, 30 ones, no room is left: a wrong length would leave some."""
    bits = [length for length, _ in hpack._CODES]
    assert len(bits) == 256
    assert sum(2 ** (30 - length) for length in bits) == 2**30 - 1


def test_entries_leave_a_table_that_is_made_smaller() -> None:
    decoder = hpack.Decoder()
    decoder.decode(bytes.fromhex(PLAIN[0]))
    decoder.decode(bytes.fromhex("20"))
    with pytest.raises(hpack.HpackError):
        decoder.decode(bytes.fromhex("be"))


@pytest.mark.parametrize("block", ["80", "ff", "41", "410f7777", "ffffffffffff", "418000ff", "4181fe"])
def test_broken_blocks_are_refused(block: str) -> None:
    with pytest.raises(hpack.HpackError):
        hpack.Decoder().decode(bytes.fromhex(block))


def test_what_is_encoded_is_decoded() -> None:
    headers = [(":status", "200"), ("x-token", "a" * 300), ("grpc-message", "")]
    assert hpack.Decoder().decode(hpack.encode(headers)) == headers


def test_messages_come_in_any_pieces() -> None:
    data = http2.make_message(b"one") + http2.make_message(b"") + http2.make_message(b"three")
    reader = http2.MessageReader()
    assert [one for at in range(len(data)) for one in reader.feed(data[at : at + 1])] == [b"one", b"", b"three"]
    with pytest.raises(http2.Http2Error, match="compressed"):
        list(http2.MessageReader().feed(b"\x01\0\0\0\0"))


def test_fields_are_those_of_protocol_buffers() -> None:
    """By the examples of Protocol Buffers' encoding guide: 150, "testing", and fields that are skipped by their size."""
    assert http2.write_field(1, 150).hex() == "089601"
    assert http2.write_field(2, b"testing").hex() == "120774657374696e67"
    data = bytes.fromhex("089601" + "120774657374696e67" + "1d01000000" + "210100000000000000")
    assert list(http2.read_fields(data)) == [(1, 150), (2, b"testing"), (3, b"\1\0\0\0"), (4, b"\1" + b"\0" * 7)]
    for broken in ("08", "1207", "0b"):
        with pytest.raises(http2.Http2Error):
            list(http2.read_fields(bytes.fromhex(broken)))
