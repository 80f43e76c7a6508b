"""Verify an image before anything of it is used: signatures, id, and every byte of every blob."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from qtrade.errors import TrustError
from qtrade.manifest import Image
from qtrade.manifest.image import image_id
from qtrade.signing import STATEMENT_TYPE, PublicKey, open_envelope
from qtrade.store import PublishedImage, Store
from qtrade.store.blobs import DamagedBlob
from qtrade.trust.trust_set import TrustSet, public_keys

_CURE = "bake the version again under another number; this one must not be used"


@dataclass(frozen=True)
class VerifiedImage:
    """An image whose signatures and id hold, with the texts that were verified.

    `promotion` is the DSSE envelope of the promotion that a host is to see, if there is one, and `sequence` its number.
    """

    image: Image
    image_text: str
    list_text: str
    list_sig: bytes
    promotion: dict[str, Any] | None = None
    sequence: int = 0


def load_image(store: Store, recipe: str, version: str, trusted: tuple[PublicKey, ...]) -> VerifiedImage:
    """Return a version whose signatures hold. Raises `NotFound`, or `TrustError` for an unsigned or altered one."""
    return verify_published(store.read(recipe, version), recipe, version, trusted)


def load_trusted(published: PublishedImage, recipe: str, version: str, trust: TrustSet) -> VerifiedImage:
    """As `verify_published`, for the builders of a trust set; a revoked key is called so."""
    revoked = signers_of(published, public_keys(trust.revoked))
    if revoked and not signers_of(published, trust.builders()):
        raise TrustError(
            f"{recipe} {version} was signed by {', '.join(keyid[:16] for keyid in sorted(revoked))}, which is revoked",
            resolution="bake it again under another number, with the key that signs now",
        )
    return verify_published(published, recipe, version, trust.builders())


def verify_published(
    published: PublishedImage, recipe: str, version: str, trusted: tuple[PublicKey, ...]
) -> VerifiedImage:
    """Return what was published, verified. Raises `TrustError` for an unsigned or altered version."""
    statement = open_envelope(published.envelope, STATEMENT_TYPE, trusted)
    subjects = {item["name"]: item["digest"]["sha256"] for item in statement["subject"]}
    found = {"list": image_id(published.list_text), "image.json": image_id(published.image_text)}
    for name, digest in found.items():
        if subjects.get(name) != digest:
            raise TrustError(
                f"{recipe} {version}: {name} was altered",
                details=f"signed {subjects.get(name)}\nfound  {digest}",
                resolution=_CURE,
            )
    if not signers_of(published, trusted):
        raise TrustError(f"{recipe} {version}: no trusted key signed the list", resolution=_CURE)
    try:
        image = Image.model_validate_json(published.image_text)
    except ValidationError as error:
        raise TrustError(f"{recipe} {version}: image.json is of another format", details=str(error)) from error
    if (
        image.id != found["list"]
        or image.list_text() != published.list_text
        or (image.name, image.version) != (recipe, version)
    ):
        raise TrustError(f"{recipe} {version}: image.json and list are of different images", resolution=_CURE)
    return VerifiedImage(image, published.image_text, published.list_text, published.list_sig)


def signers_of(published: PublishedImage, keys: tuple[PublicKey, ...]) -> frozenset[str]:
    """Return the ids of those of `keys` that signed the list."""
    message = published.list_text.encode()
    return frozenset(key.keyid for key in keys if key.verify(published.list_sig, message))


def verify_blobs(store: Store, image: Image) -> None:
    """Read every blob of the image and compare. Raises `NotFound`, or `TrustError` naming the blob."""
    roles = {layer.digest: f"layer {layer.role}" for layer in image.layers}
    roles.update({image.kernel.digest: "kernel", image.initrd.digest: "initrd", image.installer.digest: "installer"})
    sizes = {**image.blobs(), image.installer.digest: image.installer.size}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda item: _verify(store, roles[item[0]], *item), sizes.items()))


def _verify(store: Store, what: str, digest: str, size: int) -> None:
    try:
        found_size = store.open_blob(digest, afresh=True).stat().st_size
    except DamagedBlob as error:
        raise TrustError(
            _describe_damage(what, error.size_bytes, size),
            details=f"{error.brief}\n{error.details}",
            resolution=error.resolution,
        ) from error
    if found_size != size:
        raise TrustError(
            f"{what} has {found_size} bytes, and image.json says {size}", details=f"blob {digest}", resolution=_CURE
        )


def _describe_damage(what: str, found: int, wanted: int) -> str:
    if found == wanted:
        return f"{what} was altered"
    return f"{what} is truncated: {found} of {wanted} bytes" if found < wanted else f"{what} is too long"
