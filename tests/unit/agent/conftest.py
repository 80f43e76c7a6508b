"""Keys, envelopes, a small image and a job for the agent's tests."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flash.agent import dsse, ed25519


@dataclass(frozen=True)
class Key:
    """A signing key."""

    private: Ed25519PrivateKey

    @property
    def raw(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        return ed25519.key_id(self.raw)

    @property
    def pem(self) -> str:
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(encoding, form).decode()

    def envelope(self, payload_type: str, value: Any) -> dict[str, Any]:
        payload = json.dumps(value).encode()
        signature = self.private.sign(dsse.pae(payload_type, payload))
        return {
            "payloadType": payload_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": self.key_id, "sig": base64.b64encode(signature).decode()}],
        }


@dataclass
class ImageMaker:
    """An image of given blobs."""

    key: Key
    blobs: dict[str, bytes] = field(default_factory=lambda: {"base": b"B" * 5000, "agave": b"A" * 100})
    cmdline: str = "console=ttyS0 quiet"

    def digest(self, role: str) -> str:
        return hashlib.sha256(self.blobs[role]).hexdigest()

    @property
    def list_text(self) -> str:
        layers = "".join(
            f"layer {self.digest(role)} {len(data)} {hashlib.sha256(b'v' + data).hexdigest()} {role}\n"
            for role, data in self.blobs.items()
        )
        kernel, initrd = hashlib.sha256(b"kernel").hexdigest(), hashlib.sha256(b"initrd").hexdigest()
        return f"qtrade-image 1\n{layers}kernel {kernel} 6\ninitrd {initrd} 6\ncmdline {self.cmdline}\n"

    @property
    def image_id(self) -> str:
        return hashlib.sha256(self.list_text.encode()).hexdigest()

    def as_job(self) -> dict[str, str]:
        signature = base64.b64encode(self.key.private.sign(self.list_text.encode())).decode()
        return {
            "id": self.image_id,
            "version": "1.0",
            "list": self.list_text,
            "sig": signature,
            "image_json": '{"version":"1.0"}',
        }


@pytest.fixture(scope="session")
def key() -> Key:
    return Key(Ed25519PrivateKey.from_private_bytes(b"j" * 32))


@pytest.fixture(scope="session")
def other_key() -> Key:
    return Key(Ed25519PrivateKey.from_private_bytes(b"o" * 32))


@pytest.fixture(scope="session")
def root() -> Key:
    return Key(Ed25519PrivateKey.from_private_bytes(b"r" * 32))


@pytest.fixture(scope="session")
def promoter() -> Key:
    return Key(Ed25519PrivateKey.from_private_bytes(b"p" * 32))


@pytest.fixture(scope="session")
def make_trust(key: Key, root: Key, promoter: Key) -> Callable[..., dict[str, Any]]:
    """Return a maker of trust sets, in which `key` signs images and jobs; with changes, and signed by `signer`."""

    def make(signer: Key = root, **changes: Any) -> dict[str, Any]:
        fields = {
            "schema_version": 1,
            "sequence": 3,
            "issued_at": 1_800_000_000,
            "expires": 4_000_000_000,
            "lab": False,
            "root": {root.key_id: root.pem},
            "build": {key.key_id: key.pem},
            "promote": {promoter.key_id: promoter.pem},
            "job": {key.key_id: key.pem},
            "retired": {"build": {}, "promote": {}},
            "revoked": {},
        }
        return signer.envelope("application/vnd.qtrade.trust+json", {**fields, **changes})

    return make


@pytest.fixture
def image(key: Key) -> ImageMaker:
    return ImageMaker(key)


@pytest.fixture
def job_fields(make_trust: Callable[..., dict[str, Any]], image: ImageMaker) -> Callable[..., dict[str, Any]]:
    """Return the fields of a good installation job, with changes; None takes a field away."""

    def make(**changes: Any) -> dict[str, Any]:
        fields = {
            "schema_version": 1,
            "kind": "install",
            "host": "lab-1",
            "nonce": "5" * 64,
            "issued_at": 1_800_000_000,
            "image": image.as_job(),
            "source": "http://192.0.2.1/secret",
            "report": "http://192.0.2.1/secret/report",
            "os_disk": {"serial": "OS1", "size_bytes": 4 << 30},
            "protected": [{"serial": "LEDGER"}],
            "layout": {"esp_mib": 64, "system_mib": 2048},
            "cmdline": "console=ttyS1",
            "environment": "development",
            "trust": make_trust(),
        }
        fields.update(changes)
        return {name: value for name, value in fields.items() if value is not None}

    return make
