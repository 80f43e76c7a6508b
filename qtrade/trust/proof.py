"""Prove a version offline: every check that qtrade makes, and the commands that show the same without qtrade."""

import base64
import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtrade.errors import NotFound, QtradeError, Refused, TrustError
from qtrade.manifest import Image
from qtrade.manifest.image import image_id
from qtrade.signing import PublicKey, pre_authentication_encoding
from qtrade.store import PublishedImage, Store
from qtrade.store.blocks import why_blocked
from qtrade.trust.images import load_trusted, signers_of, verify_blobs
from qtrade.trust.policy import Candidate, Rules, refuse_install
from qtrade.trust.refusal import Refusal
from qtrade.trust.statements import Statements, verify_statements
from qtrade.trust.trust_set import TrustSet

# Both stand in the Debian base of every build machine; the initramfs of the hosts runs the first one too.
_VERIFY = "openssl pkeyutl -verify -rawin -pubin"
_SUMS = """awk '$1 ~ /^(layer|kernel|initrd)$/ {print $2 "  blobs/" $2}' list | sha256sum --check --quiet -"""


@dataclass(frozen=True)
class Check:
    """One thing that was checked; `detail` says what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Proof:
    """What a version is worth: the checks, the statements that hold, and per environment why it would be refused."""

    recipe: str
    version: str
    image_id: str
    checks: tuple[Check, ...]
    statements: Statements
    refusals: dict[str, tuple[Refusal, ...]]

    @property
    def holds(self) -> bool:
        """Whether the image is what was signed. Whether it may run somewhere, `refusals` says."""
        return all(check.ok for check in self.checks)


def prove(store: Store, recipe: str, version: str, *, trust: TrustSet, rules: tuple[Rules, ...], now: int) -> Proof:
    """Check a version offline. Raises `NotFound` when there is none; all else that is wrong stands in the proof."""
    published = store.read(recipe, version)
    digest = image_id(published.list_text)
    checks = [
        _check("signatures and id", lambda: _describe_signers(published, recipe, version, trust)),
        _check("blobs", lambda: _describe_blobs(store, published)),
    ]
    statements = verify_statements(digest, store.attestations(digest), trust)
    refusals: dict[str, tuple[Refusal, ...]] = {}
    if checks[0].ok:
        image = Image.model_validate_json(published.image_text)
        candidate = Candidate(
            image, signers_of(published, trust.ever_built()), statements, why_blocked(store, image.id)
        )
        refusals = {one.environment: refuse_install(candidate, trust, one, now) for one in rules}
    return Proof(recipe, version, digest, tuple(checks), statements, refusals)


def export_proof(store: Store, recipe: str, version: str, *, trust: TrustSet, folder: Path) -> tuple[str, ...]:
    """Write all that a stranger needs into `folder` (which must be empty or missing); return the commands to run there.

    Raises `NotFound`, `Refused` for a folder that holds something, `TrustError` when no key of the set signed the list.
    """
    published = store.read(recipe, version)
    signers = signers_of(published, trust.builders())
    if not signers:
        raise TrustError(f"{recipe} {version}: no build key of the trust set signed the list")
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty", resolution="name a folder that does not exist yet")
    (folder / "blobs").mkdir(parents=True)
    files = {
        "list": published.list_text.encode(),
        "list.sig": published.list_sig,
        "image.json": published.image_text.encode(),
        "build.pem": _pem_of(trust.builders(), signers).encode(),
    }
    image = Image.model_validate_json(published.image_text)
    for blob in image.blobs():
        shutil.copyfile(store.open_blob(blob), folder / "blobs" / blob)
    statements = verify_statements(image.id, store.attestations(image.id), trust)
    if statements.promotion_envelopes:
        files |= _promotion_files(statements.promotion_envelopes[-1], trust)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return commands(image.id, has_promotion=bool(statements.promotion_envelopes))


def commands(digest: str, *, has_promotion: bool = False) -> tuple[str, ...]:
    """Return the commands that prove an exported version: signature, image id, blobs, and the promotion if there is one."""
    proof = [
        f"{_VERIFY} -inkey build.pem -sigfile list.sig -in list",
        f"echo {shlex.quote(f'{digest}  list')} | sha256sum --check --quiet -",
        _SUMS,
    ]
    if has_promotion:
        proof.append(f"{_VERIFY} -inkey promote.pem -sigfile promotion.sig -in promotion.pae")
    return tuple(proof)


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=look())
    except QtradeError as error:
        return Check(name, ok=False, detail=f"{error.brief} {error.details}".strip())


def _describe_signers(published: PublishedImage, recipe: str, version: str, trust: TrustSet) -> str:
    load_trusted(published, recipe, version, trust)
    signers = signers_of(published, trust.builders())
    retired = ", retired" if signers <= set(trust.retired.build) else ""
    return f"build key {', '.join(keyid[:16] for keyid in sorted(signers))}{retired}"


def _describe_blobs(store: Store, published: PublishedImage) -> str:
    try:
        image = Image.model_validate_json(published.image_text)
    except ValueError as error:
        raise TrustError("image.json is of another format", details=str(error)) from error
    verify_blobs(store, image)
    return (
        f"{len(image.blobs())} of the host and the installer, {sum(image.blobs().values()) >> 20} MiB, every byte read"
    )


def _promotion_files(envelope: dict[str, Any], trust: TrustSet) -> dict[str, bytes]:
    """Return the promotion in the parts that openssl takes: signed bytes, signature, key."""
    body = base64.b64decode(envelope["payload"])
    encoded = pre_authentication_encoding(envelope["payloadType"], body)
    keys = {key.keyid: key for key in trust.promoters()}
    for one in envelope["signatures"]:
        signature = base64.b64decode(one["sig"])
        if one["keyid"] in keys and keys[one["keyid"]].verify(signature, encoded):
            return {
                "promotion.pae": encoded,
                "promotion.sig": signature,
                "promote.pem": keys[one["keyid"]].pem.encode(),
                "promotion.json": json.dumps(envelope, indent=1).encode(),
            }
    raise NotFound("the promotion has no signature that holds")


def _pem_of(keys: tuple[PublicKey, ...], signers: frozenset[str]) -> str:
    return next(key.pem for key in keys if key.keyid in signers)
