"""DSSE envelopes: opens one that a trusted key signed, and gives nothing of any other."""

import base64
import binascii
import hashlib
import json
from typing import Any, Dict, Mapping, NamedTuple, Tuple

from . import ed25519
from .errors import AgentError


class Opened(NamedTuple):
    """The content of an envelope and the id of the key that signed it."""

    payload: bytes
    key_id: str


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: the bytes that are signed."""
    name = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def load_keys(pems: Tuple[str, ...]) -> Dict[str, bytes]:
    """Return key id -> raw key of PEM public keys. Raises `AgentError` for one that is not Ed25519."""
    keys = {}
    for pem in pems:
        raw = ed25519.raw_key(pem)
        if raw is None:
            raise AgentError(
                "key-invalid", "a trusted key is not an Ed25519 public key in PEM", "make it with `qtrade keys`"
            )
        keys[ed25519.key_id(raw)] = raw
    return keys


def read_unverified(envelope: Any, payload_type: str) -> bytes:
    """Return the payload with no look at the signatures: only to find the key that the caller then demands."""
    _require_shape(envelope, payload_type)
    return _decode(envelope["payload"])


def count_signers(envelope: Any, payload_type: str, keys: Mapping[str, bytes]) -> int:
    """Return how many different ones of `keys` signed the envelope. Raises `AgentError` for what is none."""
    signed = pae(payload_type, read_unverified(envelope, payload_type))
    found = {
        one["keyid"]
        for one in envelope["signatures"]
        if one["keyid"] in keys and ed25519.verify(keys[one["keyid"]], signed, _decode(one["sig"]))
    }
    return len(found)


def open_envelope(envelope: Any, payload_type: str, keys: Mapping[str, bytes]) -> Opened:
    """Return the payload if one of `keys` signed it. Raises `AgentError` otherwise."""
    _require_shape(envelope, payload_type)
    payload = _decode(envelope["payload"])
    signed = pae(payload_type, payload)
    for signature in envelope["signatures"]:
        key = keys.get(signature["keyid"])
        if key is not None and ed25519.verify(key, signed, _decode(signature["sig"])):
            return Opened(payload, signature["keyid"])
    found = ", ".join(signature["keyid"][:16] for signature in envelope["signatures"]) or "none"
    trusted = ", ".join(name[:16] for name in sorted(keys)) or "none"
    raise AgentError(
        "signature-untrusted",
        f"no trusted key signed this {payload_type} (signed by {found}; trusted are {trusted})",
        "sign it with a key that the host trusts, or deliver the new key with an installation",
    )


def canonical(value: Any) -> bytes:
    """Return canonical JSON: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load_object(payload: bytes) -> Dict[str, Any]:
    """Return the JSON object that the payload of a job is. Raises `AgentError`."""
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise AgentError("job-invalid", f"the payload is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise AgentError("job-invalid", "the payload is not a JSON object")
    return value


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def _require_shape(envelope: Any, payload_type: str) -> None:
    is_shaped = (
        isinstance(envelope, dict)
        and isinstance(envelope.get("payload"), str)
        and isinstance(envelope.get("signatures"), list)
        and all(
            isinstance(one, dict) and isinstance(one.get("keyid"), str) and isinstance(one.get("sig"), str)
            for one in envelope["signatures"]
        )
    )
    if not is_shaped:
        raise AgentError("envelope-invalid", "this is no DSSE envelope", "send payloadType, payload and signatures")
    if envelope.get("payloadType") != payload_type:
        raise AgentError("envelope-invalid", f"payload type {envelope.get('payloadType')!r}, expected {payload_type!r}")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise AgentError("envelope-invalid", "payload or signature is not base64") from None
