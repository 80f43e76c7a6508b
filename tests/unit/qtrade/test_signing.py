"""DSSE envelopes and key files."""

import base64
import copy
import json
import os
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from qtrade.errors import NotFound, TrustError
from qtrade.signing import (
    PublicKey,
    SigningKey,
    ensure_key,
    load_key,
    make_key,
    open_envelope,
    parse_public_pem,
    pre_authentication_encoding,
    read_key,
)

pytestmark = pytest.mark.unit

TYPE = "application/vnd.test+json"


@pytest.fixture
def key(tmp_path) -> SigningKey:
    return ensure_key(tmp_path / "keys", "build")


@pytest.fixture
def stranger(tmp_path) -> SigningKey:
    return ensure_key(tmp_path / "strangers", "build")


def test_the_encoding_is_that_of_the_specification() -> None:
    # The vector of the DSSE specification, protocol.md, "Test vectors".
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_are_in_bytes() -> None:
    assert pre_authentication_encoding("é", "ü".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xbc"


def test_an_envelope_gives_its_payload_back(key) -> None:
    envelope = json.loads(json.dumps(key.envelope(TYPE, {"b": 1, "a": ["x"]})))
    assert open_envelope(envelope, TYPE, (key.public,)) == {"a": ["x"], "b": 1}
    assert base64.b64decode(envelope["payload"]) == b'{"a":["x"],"b":1}'


def test_a_tampered_payload_is_refused(key) -> None:
    envelope = key.envelope(TYPE, {"host": "a"})
    envelope["payload"] = base64.b64encode(b'{"host":"b"}').decode()
    with pytest.raises(TrustError, match="no trusted key signed this"):
        open_envelope(envelope, TYPE, (key.public,))


def test_a_payload_of_another_type_is_refused(key) -> None:
    with pytest.raises(TrustError, match="not a application/other"):
        open_envelope(key.envelope(TYPE, {}), "application/other", (key.public,))


def test_a_payload_whose_type_was_changed_afterwards_is_refused(key) -> None:
    envelope = {**key.envelope(TYPE, {}), "payloadType": "application/other"}
    with pytest.raises(TrustError, match="no trusted key signed this"):
        open_envelope(envelope, "application/other", (key.public,))


def test_an_unknown_key_is_refused_and_both_sides_are_named(key, stranger) -> None:
    with pytest.raises(TrustError) as caught:
        open_envelope(stranger.envelope(TYPE, {}), TYPE, (key.public,))
    assert stranger.public.keyid[:12] in caught.value.details
    assert key.public.keyid[:12] in caught.value.details
    assert caught.value.exit_code == 6


def test_a_trusted_name_on_a_strangers_signature_is_refused(key, stranger) -> None:
    envelope = stranger.envelope(TYPE, {})
    envelope["signatures"][0]["keyid"] = key.public.keyid
    with pytest.raises(TrustError, match="no trusted key signed this"):
        open_envelope(envelope, TYPE, (key.public,))


def test_one_trusted_signature_among_others_is_enough(key, stranger) -> None:
    envelope = stranger.envelope(TYPE, {"a": 1})
    envelope["signatures"] += key.envelope(TYPE, {"a": 1})["signatures"]
    assert open_envelope(envelope, TYPE, (key.public,)) == {"a": 1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda envelope: envelope.pop("signatures"),
        lambda envelope: envelope.pop("payload"),
        lambda envelope: envelope.update(payload="*"),
        lambda envelope: envelope.update(signatures=[{"keyid": "x"}]),
        lambda envelope: envelope.update(signatures=None),
        lambda envelope: envelope["signatures"][0].update(sig="short"),
        lambda envelope: envelope["signatures"][0].update(sig="AAAA"),
        lambda envelope: envelope.update(signatures=[]),
    ],
)
def test_a_damaged_envelope_is_refused(key, damage) -> None:
    envelope = copy.deepcopy(key.envelope(TYPE, {}))
    damage(envelope)
    with pytest.raises(TrustError):
        open_envelope(envelope, TYPE, (key.public,))


@pytest.mark.parametrize("document", [[], None, "text", 7])
def test_what_is_no_object_is_no_envelope(key, document) -> None:
    with pytest.raises(TrustError, match="no DSSE envelope"):
        open_envelope(document, TYPE, (key.public,))


def test_key_files_are_for_their_owner_only(tmp_path, key) -> None:
    assert stat.S_IMODE((tmp_path / "keys/build.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_a_key_is_made_once(tmp_path, key) -> None:
    assert ensure_key(tmp_path / "keys", "build").public == key.public == load_key(tmp_path / "keys", "build").public


def test_a_missing_key_is_not_found(tmp_path) -> None:
    with pytest.raises(NotFound, match="there is no job key"):
        load_key(tmp_path, "job")


def test_a_private_key_is_never_printed(tmp_path, key) -> None:
    secret = "".join((tmp_path / "keys/build.key").read_text().splitlines()[1:-1])
    assert repr(key) == str(key) == f"SigningKey({key.public.keyid[:12]}…)"
    assert secret not in repr([key])


def test_the_key_id_is_the_sha256_of_the_raw_key() -> None:
    assert PublicKey(bytes(32)).keyid == "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"


def test_a_public_key_is_pem_as_openssl_reads_it(key) -> None:
    assert key.public.pem.startswith("-----BEGIN PUBLIC KEY-----\n")


def test_a_key_never_takes_the_place_of_another(tmp_path) -> None:
    make_key(tmp_path / "root.key")
    before = (tmp_path / "root.key").read_bytes()
    with pytest.raises(FileExistsError):
        make_key(tmp_path / "root.key")
    assert (tmp_path / "root.key").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["root.key"]


def test_a_key_can_be_made_on_a_medium_without_links(tmp_path, monkeypatch) -> None:
    tried = []

    def refuse(*args) -> None:
        tried.append(args)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    key = make_key(tmp_path / "root.key")
    assert read_key(tmp_path / "root.key", "root").public == key.public
    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        make_key(tmp_path / "root.key")
    assert len(tried) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["root.key"]


def test_a_public_key_is_read_from_its_pem(key) -> None:
    assert parse_public_pem(key.public.pem) == key.public
    with pytest.raises(ValueError, match="no public key in PEM"):
        parse_public_pem("x")
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(ValueError, match="no Ed25519 key"):
        parse_public_pem(pem)
