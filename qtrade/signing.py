"""Ed25519 signatures: DSSE envelopes (https://github.com/secure-systems-lab/dsse, v1) and detached ones."""

import base64
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from qtrade.errors import NotFound, TrustError

JOB_TYPE = "application/vnd.qtrade.job+json"
BUNDLE_TYPE = "application/vnd.qtrade.bundle+json"
STATEMENT_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with; `keyid` is the SHA-256 of the 32 raw bytes."""

    raw: bytes

    @property
    def keyid(self) -> str:
        """Return the key's name: 64 hex digits."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def pem(self) -> str:
        """Return the key as PEM SubjectPublicKeyInfo, as openssl reads it."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key().public_bytes(serialization.Encoding.PEM, form).decode()

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` (64 bytes) over `message` is this key's."""
        try:
            self._key().verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)


@dataclass(frozen=True)
class SigningKey:
    """A private key. Never printed."""

    _key: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.public.keyid[:12]}…)"

    @property
    def public(self) -> PublicKey:
        """Return the public half."""
        form = serialization.PublicFormat.Raw
        return PublicKey(self._key.public_key().public_bytes(serialization.Encoding.Raw, form))

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        return self._key.sign(message)

    def envelope(self, payload_type: str, payload: Any) -> dict[str, Any]:
        """Return a DSSE envelope around `payload`, which is written as canonical JSON."""
        body = json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
        signature = self.sign(pre_authentication_encoding(payload_type, body))
        return {
            "payloadType": payload_type,
            "payload": base64.b64encode(body).decode(),
            "signatures": [{"keyid": self.public.keyid, "sig": base64.b64encode(signature).decode()}],
        }


def pre_authentication_encoding(payload_type: str, body: bytes) -> bytes:
    """Return the bytes that a DSSE signature covers."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def open_envelope(envelope: dict[str, Any], payload_type: str, trusted: tuple[PublicKey, ...]) -> Any:
    """Return the payload of `envelope`. Raises `TrustError` unless a trusted key signed it as `payload_type`."""
    body, signatures = _take_apart(envelope, payload_type)
    if not _valid_signers(body, signatures, payload_type, trusted):
        signers = ", ".join(keyid[:12] for keyid, _ in signatures) or "nobody"
        raise TrustError(
            "no trusted key signed this",
            details=f"signed by {signers}; trusted: {', '.join(key.keyid[:12] for key in trusted) or 'none'}",
            resolution="bake it again with a trusted key; do not use this one",
        )
    return json.loads(body)


def signers_of_envelope(envelope: dict[str, Any], payload_type: str, trusted: tuple[PublicKey, ...]) -> frozenset[str]:
    """Return the ids of those of `trusted` that signed the envelope as `payload_type`. Raises `TrustError` for no envelope."""
    body, signatures = _take_apart(envelope, payload_type)
    return _valid_signers(body, signatures, payload_type, trusted)


def add_signature(envelope: dict[str, Any], payload_type: str, key: SigningKey) -> dict[str, Any]:
    """Return the envelope with a signature of `key` beside those that it has, over the same bytes. Raises `TrustError`."""
    body, _ = _take_apart(envelope, payload_type)
    others = [one for one in envelope["signatures"] if one["keyid"] != key.public.keyid]
    signature = key.sign(pre_authentication_encoding(payload_type, body))
    own = {"keyid": key.public.keyid, "sig": base64.b64encode(signature).decode()}
    return {**envelope, "signatures": [*others, own]}


def _take_apart(envelope: dict[str, Any], payload_type: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return payload and signatures by key id, none of them checked. Raises `TrustError`."""
    try:
        found_type = envelope["payloadType"]
        body = base64.b64decode(envelope["payload"], validate=True)
        signatures = [(item["keyid"], base64.b64decode(item["sig"], validate=True)) for item in envelope["signatures"]]
    except (KeyError, TypeError, ValueError) as error:
        raise TrustError("this is no DSSE envelope", details=repr(error)) from error
    if found_type != payload_type:
        raise TrustError(f"the envelope is a {found_type}, not a {payload_type}")
    return body, signatures


def _valid_signers(
    body: bytes, signatures: list[tuple[str, bytes]], payload_type: str, trusted: tuple[PublicKey, ...]
) -> frozenset[str]:
    encoded = pre_authentication_encoding(payload_type, body)
    keys = {key.keyid: key for key in trusted}
    return frozenset(keyid for keyid, sig in signatures if keyid in keys and keys[keyid].verify(sig, encoded))


def parse_public_pem(pem: str) -> PublicKey:
    """Return the public key of a PEM SubjectPublicKeyInfo. Raises `ValueError` unless it is an Ed25519 one."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("this is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("this is no Ed25519 key")  # noqa: TRY004 - it is the value that is wrong, not a type
    return PublicKey(key.public_bytes_raw())


def load_key(folder: Path, name: str) -> SigningKey:
    """Read the private key `name` of the keys folder. Raises `NotFound`."""
    return read_key(folder / f"{name}.key", name)


def read_key(path: Path, name: str) -> SigningKey:
    """Read the private key in the file `path`; `name` is for messages. Raises `NotFound`, `TrustError`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no {name} key at {path}",
            resolution=f"bring the {name} key there, or run this where it is; `qtrade keys init` makes the first ones",
        ) from error
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TrustError(f"{path} holds no private key", resolution="name the file that `qtrade keys` wrote") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError(f"{path} is no Ed25519 key")
    return SigningKey(key)


def ensure_key(folder: Path, name: str) -> SigningKey:
    """Return the private key `name`, made first if there is none (mode 600 in a folder of mode 700)."""
    path = folder / f"{name}.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):
            make_key(path)
    return load_key(folder, name)


def make_key(path: Path) -> SigningKey:
    """Make a new private key in the file `path`, which appears whole (mode 600). Raises `FileExistsError`."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as sink:
        sink.write(pem)
        sink.flush()
        os.fsync(descriptor)
    try:
        _place(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return SigningKey(key)


def _place(fresh: Path, path: Path) -> None:
    """Give `fresh` its name. A link never takes the place of a key that is there; a stick with FAT knows none."""
    try:
        os.link(fresh, path)
    except FileExistsError:
        raise
    except OSError as error:
        if path.exists():
            raise FileExistsError(str(path)) from error
        fresh.rename(path)
