"""The store: everything that bake and flash ask of it, over a few verbs of what keeps the bytes."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtrade.errors import ConflictError, NotFound, TrustError, UsageError, choose_from
from qtrade.store.blobs import Blobs, blob_key, find_sizes, missing_blob
from qtrade.store.claims import Claim, claim
from qtrade.store.documents import CHANNELS, BlobRecord, ChannelPointer, PublishedImage
from qtrade.store.objects import Changed, Entry, Exists, Missing, Objects, key_of
from qtrade.store.order import version_order

if TYPE_CHECKING:
    from qtrade.manifest import Image


_VERSION_KEY = re.compile(r"versions/([^/]+)/([^/]+)\.json")


class Store:
    """Content-addressed blobs, records by key, write-once versions, attestations, channels (docs/architecture.md, "Store")."""

    def __init__(self, objects: Objects, blobs: Blobs) -> None:
        self.objects = objects
        self._blobs = blobs

    def has_blob(self, digest: str) -> bool:
        """Return whether the blob is there or on its way (not whether its bytes are right)."""
        return self._blobs.has(digest)

    def add_blob(self, path: Path, digest: str) -> None:
        """Take the file at `path`, whose SHA-256 is `digest`: it is moved. An upload goes on in the background until `publish`."""
        self._blobs.add(path, digest)

    def open_blob(self, digest: str, *, afresh: bool = False) -> Path:
        """Return a local file with the blob's bytes, which must not be changed.

        Its bytes were compared with the digest, once per process, or now with `afresh`. Raises `NotFound`, `TrustError`.
        """
        return self._blobs.open(digest, afresh=afresh)

    def locate_blob(self, digest: str) -> Path:
        """Return where `open_blob` has the file, not compared yet: nothing may come of its bytes before that was called too."""
        return self._blobs.locate(digest)

    def blob_url(self, digest: str, expires_s: int) -> str | None:
        """Return a URL that gives the blob for that many seconds to whoever has it; None for a local store."""
        return self.objects.url(blob_key(digest), expires_s)

    def put_document(self, content: bytes) -> str:
        """Store a small document as a blob and return its SHA-256."""
        digest = hashlib.sha256(content).hexdigest()
        try:
            self.objects.put_new(blob_key(digest), content)
        except Exists:  # what is there is damaged: its name says what it has to be
            self.objects.put(blob_key(digest), content)
        return digest

    def document(self, digest: str) -> bytes:
        """Return a document. Raises `NotFound`, or `TrustError` when its bytes are not those that were stored."""
        try:
            content, _ = self.objects.get(blob_key(digest))
        except Missing as error:
            raise missing_blob(digest) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise TrustError(f"the document {digest} is damaged in the store", resolution="delete it and make it again")
        return content

    def find_record(self, key: str) -> BlobRecord | None:
        """Return what `key` led to, or None when it or its blob is gone."""
        try:
            record = BlobRecord.from_bytes(self.objects.get(_record_key(key))[0])
        except (Missing, ValueError):  # an unreadable record is made again
            return None
        is_there = not record.digest or self._blobs.has(record.digest) or self._blobs.recall(record.digest)
        return record if is_there else None

    def add_record(self, record: BlobRecord, paths: Iterable[str] | None = None) -> None:
        """Write a record. `paths` are a layer's own: `d <mode>:<uid>:<gid> <path>` for folders, `f <path>` for the rest."""
        if paths is not None:
            self.objects.put(_paths_key(record.key), json.dumps(list(paths), separators=(",", ":")).encode())
        self.objects.put(_record_key(record.key), record.to_bytes())

    def paths(self, record: BlobRecord) -> tuple[str, ...]:
        """Return the paths of a layer as `add_record` took them. Raises `NotFound` where it took none."""
        return tuple(json.loads(self.objects.get(_paths_key(record.key))[0]))

    def publish(self, image: "Image", published: PublishedImage) -> None:
        """Write a version once, when all its blobs are there; the same id again changes nothing.

        Raises `ConflictError` when the version exists, or once existed, with another id, and `NotFound` for a missing blob.
        """
        key = version_key(image.name, image.version)
        if self._is_published(key, image):
            return
        self._blobs.flush()
        sizes = {**image.blobs(), image.installer.digest: image.installer.size}
        with claim(self.objects, Claim(blobs=frozenset(sizes))):
            found = find_sizes(self.objects, tuple(sizes))
            for digest, size in sizes.items():
                if found[digest] != size:
                    raise missing_blob(digest)
            try:
                self.objects.put_new(key, published.to_bytes())
            except Exists:
                self._is_published(key, image)

    def read(self, recipe: str, version: str) -> PublishedImage:
        """Return a version. Raises `NotFound`, naming the versions that there are, or `TrustError` for a damaged one."""
        try:
            content, _ = self.objects.get(version_key(recipe, version))
        except Missing as error:
            known = ", ".join(self.versions(recipe)) or "none"
            raise NotFound(
                f"the store has no version {version} of {recipe}",
                details=f"versions of {recipe}: {known}",
                resolution=f"bake it: qtrade bake --recipe {recipe} --version {version}",
            ) from error
        try:
            return PublishedImage.from_bytes(content)
        except ValueError as error:
            raise TrustError(
                f"{recipe} {version} is damaged in the store",
                details=str(error),
                resolution="bake the version again under another number; this one must not be used",
            ) from error

    def has_version(self, recipe: str, version: str) -> bool:
        """Return whether the version is published."""
        return self.objects.size(version_key(recipe, version)) is not None

    def recipes(self) -> tuple[str, ...]:
        """Return the recipes that have versions, by name."""
        return tuple(sorted({recipe for recipe, _ in self.published()}))

    def versions(self, recipe: str) -> tuple[str, ...]:
        """Return the versions of a recipe, lowest first: natural order, pre-releases before their release."""
        found = _by_version(self.objects.list(f"{key_of('versions', recipe)}/"))
        return tuple(sorted((version for _, version in found), key=version_order))

    def published(self) -> dict[tuple[str, str], Entry]:
        """Return all versions as (recipe, version), with what stands for each in the store."""
        return _by_version(self.objects.list("versions/"))

    def attest(self, image_id: str, envelope: dict[str, Any]) -> None:
        """Append one DSSE envelope to what is attested of an image; the same one again changes nothing."""
        content = json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(content).hexdigest()
        there = self.objects.list(_attestations_of(image_id))
        if all(not entry.key.endswith(f"-{digest}.json") for entry in there):
            # Two who append at once may share a number: both stay, in the order of their digests.
            self.objects.put_new(f"{_attestations_of(image_id)}{len(there) + 1:06}-{digest}.json", content)

    def attestations(self, image_id: str) -> tuple[dict[str, Any], ...]:
        """Return the envelopes of an image, oldest first. Their signatures are not checked. Raises `TrustError` for damage."""
        found: dict[str, dict[str, Any]] = {}
        for entry in self.objects.list(_attestations_of(image_id)):
            content, _ = self.objects.get(entry.key)
            digest = hashlib.sha256(content).hexdigest()
            if not entry.key.endswith(f"-{digest}.json"):
                raise TrustError(f"{entry.key} is damaged in the store", resolution="delete it and attest again")
            found.setdefault(digest, json.loads(content))
        return tuple(found.values())

    def channel(self, recipe: str, name: str) -> ChannelPointer | None:
        """Return where a channel points, or None while it points nowhere. Raises `TrustError` when it is damaged."""
        found = self._read_channel(recipe, name)
        return found[0] if found else None

    def move_channel(self, recipe: str, name: str, pointer: ChannelPointer, expected: ChannelPointer | None) -> None:
        """Point a channel at a published version. Raises `ConflictError` unless it points at `expected`, or `NotFound`."""
        found = self._read_channel(recipe, name)
        current = found[0] if found else None
        if current == expected:
            with claim(self.objects, Claim(versions=frozenset({(recipe, pointer.version)}))):
                document = self.read(recipe, pointer.version).document()
                if document["id"] != pointer.image_id:
                    raise ConflictError(f"{recipe} {pointer.version} is image {document['id']}, not {pointer.image_id}")
                try:
                    self.objects.put_if(_channel_key(recipe, name), pointer.to_bytes(), found[1] if found else None)
                except Changed:
                    current = self.channel(recipe, name)
                else:
                    return
        raise ConflictError(
            f"somebody else moved {name} of {recipe}",
            details=f"expected: {_describe(expected)}\nfound:    {_describe(current)}",
            resolution="look at what it points to now, and decide again",
        )

    def host_images(self, host: str) -> tuple[str, ...]:
        """Return the ids of the images that a host keeps installed, as far as this store was told."""
        try:
            return tuple(json.loads(self.objects.get(f"{key_of('hosts', host)}.json")[0]))
        except Missing:
            return ()

    def set_host_images(self, host: str, ids: Iterable[str]) -> None:
        """Remember which images a host keeps; `images gc` keeps them too."""
        self.objects.put(f"{key_of('hosts', host)}.json", json.dumps(sorted(set(ids))).encode())

    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that `set_host_images` was told of, by name."""
        return tuple(entry.key.removeprefix("hosts/").removesuffix(".json") for entry in self.objects.list("hosts/"))

    def _is_published(self, key: str, image: "Image") -> bool:
        """Return whether the version is there with this id. Raises `ConflictError` for another, even one that was deleted."""
        try:
            found = self.read(image.name, image.version).document()["id"] if self.objects.size(key) else None
        except (ValueError, KeyError):
            found = "unreadable"
        # What a version once meant it means for ever, also after its collection.
        once = found or self._retired_id(image)
        if once not in (None, image.id):
            raise ConflictError(
                f"version {image.version} of {image.name} exists with another id",
                details=f"in the store: {once}\nbaked now:    {image.id}",
                resolution="choose another version: a version is written once",
            )
        return found is not None

    def _retired_id(self, image: "Image") -> str | None:
        try:
            return self.objects.get(retired_key(image.name, image.version))[0].decode()
        except Missing:
            return None

    def _read_channel(self, recipe: str, name: str) -> tuple[ChannelPointer, str] | None:
        try:
            content, etag = self.objects.get(_channel_key(recipe, name))
            return ChannelPointer.from_bytes(content), etag
        except Missing:
            return None
        except ValueError as error:
            raise TrustError(
                f"channel {name} of {recipe} is damaged in the store",
                details=str(error),
                resolution=f"promote the version again: `qtrade images promote VERSION --recipe {recipe} --to {name}`",
            ) from error


def version_key(recipe: str, version: str) -> str:
    """Return the key of a version's document. Raises `UsageError`."""
    return f"{key_of('versions', recipe, version)}.json"


def retired_key(recipe: str, version: str) -> str:
    """Return the key of what remains of a version that was collected: its image id. Raises `UsageError`."""
    return key_of("retired", recipe, version)


def _by_version(entries: Iterable[Entry]) -> dict[tuple[str, str], Entry]:
    """Return the documents of versions by (recipe, version); whatever else somebody put there is none."""
    matches = ((_VERSION_KEY.fullmatch(entry.key), entry) for entry in entries)
    return {(match[1], match[2]): entry for match, entry in matches if match}


def _record_key(key: str) -> str:
    return f"{key_of('records', key)}.json"


def _paths_key(key: str) -> str:
    return f"{key_of('records', key)}.paths"


def _attestations_of(image_id: str) -> str:
    return f"{key_of('attestations', image_id)}/"


def _channel_key(recipe: str, name: str) -> str:
    if name not in CHANNELS:
        raise UsageError(f"there is no channel {name}", resolution=choose_from(name, CHANNELS))
    return f"{key_of('channels', recipe, name)}.json"


def _describe(pointer: ChannelPointer | None) -> str:
    return f"{pointer.version} {pointer.image_id} (sequence {pointer.sequence})" if pointer else "nothing"
