"""Whether this host may boot an image: who signed it, and in production also who promoted it and what is in it."""

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from . import dsse, durable, ed25519, images
from .errors import AgentError
from .job import Image
from .trust import TrustSet

STATEMENT_TYPE = "application/vnd.in-toto+json"
PROMOTION = "https://github.com/qtrade/qtrade/attestation/promotion/v1"
ENVIRONMENTS = ("development", "staging", "production")
STRICTEST = ENVIRONMENTS[-1]
_POLICY = "trust/policy.json"


def read_environment(system: Path) -> str:
    """Return the environment whose rules the host keeps; the strictest when nothing says it."""
    try:
        value = json.loads((system / _POLICY).read_text())["environment"]
    except (OSError, ValueError, KeyError, TypeError):
        return STRICTEST
    return value if value in ENVIRONMENTS else STRICTEST


def write_environment(system: Path, environment: str) -> None:
    """Keep the environment; the system partition must be writable."""
    (system / "trust").mkdir(exist_ok=True)
    durable.write_file(system / _POLICY, dsse.canonical({"environment": environment, "schema_version": 1}))


def stricter(held: str, asked: str) -> str:
    """Return the stricter of two environments: a job can raise what the host demands, never lower it. Empty asks for nothing."""
    return max(held, asked or held, key=ENVIRONMENTS.index)


def check_environment(environment: str, trust: TrustSet) -> None:
    """Raise `AgentError` when the environment does not take keys of a lab."""
    if trust.lab and environment != ENVIRONMENTS[0]:
        raise AgentError(
            "trust-lab",
            f"the trust set is a lab's, this host is of {environment}",
            "make real keys with `qtrade keys init`",
        )


def is_signed(image: Image, keys: Mapping[str, bytes]) -> bool:
    """Say whether one of `keys` signed the list."""
    message = image.list_text.encode()
    return any(ed25519.verify(key, message, image.signature) for key in keys.values())


def is_trusted(system: Path, image_id: str, trust: TrustSet) -> bool:
    """Say whether an installed image is signed by a key that counts."""
    try:
        return is_signed(images.read_installed(system, image_id), trust.builders)
    except AgentError:
        return False


def require_admitted(image: Image, trust: TrustSet, environment: str, now: Optional[float] = None) -> int:
    """Return the sequence of the promotion that lets the image in, 0 where none is needed. Raises `AgentError` for a refusal.

    With `now`, expiry and the number of operators count too: for what is installed anew, not for what a host goes back to.
    """
    if not is_signed(image, trust.builders):
        if is_signed(image, trust.revoked):
            raise AgentError(
                "key-revoked",
                f"the key that signed image {image.image_id} is revoked",
                "bake and flash another version",
            )
        trusted = ", ".join(sorted(name[:16] for name in trust.builders)) or "none"
        raise AgentError(
            "image-untrusted",
            f"no trusted build key signed image {image.image_id} (trusted are {trusted})",
            "publish it with a key that the host trusts",
        )
    check_environment(environment, trust)
    if environment != STRICTEST:
        return _sequence(image, trust)
    return _require_promoted(image, trust, now)


def require_newer(sequence: int, runs_by: int, *, allow_older: bool) -> None:
    """Raise `AgentError` for an image that was promoted before what the host runs by. Zero stands for no promotion."""
    if 0 < sequence < runs_by and not allow_older:
        raise AgentError(
            "image-older",
            f"the image was promoted as number {sequence}, this host runs by number {runs_by}",
            "flash a newer one; to go back, run `qtrade rollback`, or flash with --allow-older",
        )


def sequence_of(system: Path, image_id: str, trust: TrustSet) -> int:
    """Return the sequence of the promotion of an installed image, 0 when it has none that counts."""
    try:
        return _sequence(images.read_installed(system, image_id), trust)
    except AgentError:
        return 0


def _sequence(image: Image, trust: TrustSet) -> int:
    try:
        return int(_open_promotion(image, trust)["sequence"])
    except (AgentError, KeyError, TypeError, ValueError):
        return 0


def _require_promoted(image: Image, trust: TrustSet, now: Optional[float]) -> int:
    promotion = _open_promotion(image, trust)
    signers = dsse.count_signers(image.promotion, STATEMENT_TYPE, trust.promoters)
    if now is not None and signers < trust.promotion_keys:
        raise _refused(
            f"{trust.promotion_keys} promote keys sign what this host takes, {signers} signed image {image.image_id}"
        )
    try:
        channel, sequence, expires = promotion["channel"], int(promotion["sequence"]), int(promotion["expires"])
        described = promotion["image_json"]
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(f"the promotion of image {image.image_id} is malformed: {error!r}") from error
    if channel != STRICTEST:
        raise _refused(f"image {image.image_id} is promoted to {channel}, this host takes {STRICTEST} only")
    if now is not None and expires <= now:
        raise _refused(f"the promotion of image {image.image_id} expired at {expires}, it is {int(now)}")
    if hashlib.sha256(image.image_json.encode()).hexdigest() != described:
        raise _refused(f"image.json of image {image.image_id} is not the one that was promoted")
    standins = _standins(image)
    if standins:
        raise AgentError(
            "image-standin", f"image {image.image_id} holds stand-ins: {standins}", "flash an image that holds none"
        )
    return sequence


def _open_promotion(image: Image, trust: TrustSet) -> Dict[str, Any]:
    if image.promotion is None:
        raise _refused(f"image {image.image_id} comes without its promotion")
    statement = json.loads(dsse.open_envelope(image.promotion, STATEMENT_TYPE, trust.promoters).payload)
    try:
        digests = [one["digest"]["sha256"] for one in statement["subject"] if one["name"] == "list"]
        kind, predicate = statement["predicateType"], statement["predicate"]
    except (KeyError, TypeError) as error:
        raise _refused(f"the promotion of image {image.image_id} is no statement") from error
    if digests != [image.image_id] or kind != PROMOTION or not isinstance(predicate, dict):
        raise _refused(f"the promotion is not one of image {image.image_id}")
    return predicate


def _standins(image: Image) -> str:
    try:
        parts = json.loads(image.image_json)["components"]
        return ", ".join(str(part["name"]) for part in parts if part["standin"])
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(f"image.json of image {image.image_id} does not list its components") from error


def _refused(message: str) -> AgentError:
    return AgentError("image-not-promoted", message, "promote it with `qtrade images promote`, then flash again")
