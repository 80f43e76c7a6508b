"""A store in a folder. Every file appears whole, by rename."""

import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from qtrade.errors import ConflictError, NotFound, TrustError
from qtrade.manifest import Image
from qtrade.store.protocol import BlobRecord, PublishedImage

_FILES = ("image.json", "list", "list.sig", "image.dsse.json")


class LocalStore:
    """A `Store` below one folder (docs/architecture.md, "Store")."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("blobs", "records", "versions"):
            (root / name).mkdir(parents=True, exist_ok=True)

    def has_blob(self, digest: str) -> bool:
        """Return whether the blob is there."""
        return (self.root / "blobs" / digest).is_file()

    def add_blob(self, path: Path, digest: str) -> None:
        """Move the file at `path` to its place; a blob that is there already stays."""
        target = self.root / "blobs" / digest
        if target.is_file():
            path.unlink()
            return
        path.chmod(0o444)
        _sync(path)
        try:
            path.rename(target)
        except OSError:
            fresh = target.with_name(f".{digest}.new")
            shutil.copyfile(path, fresh)
            fresh.chmod(0o444)
            _sync(fresh)
            fresh.rename(target)
            path.unlink()

    def open_blob(self, digest: str) -> Path:
        """Return the blob's file. Raises `NotFound`."""
        path = self.root / "blobs" / digest
        if not path.is_file():
            raise NotFound(
                f"the store has no blob {digest}", details=f"looked for {path}", resolution="bake the version again"
            )
        return path

    def find_record(self, key: str) -> BlobRecord | None:
        """Return what `key` led to, or None when it or its blob is gone."""
        path = self.root / "records" / f"{key}.json"
        try:
            fields = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        record = BlobRecord(**{**fields, "paths": tuple(fields["paths"])})
        return record if not record.digest or self.has_blob(record.digest) else None

    def add_record(self, record: BlobRecord) -> None:
        """Write a record."""
        _write_whole(self.root / "records" / f"{record.key}.json", json.dumps(asdict(record)).encode())

    def publish(self, image: Image, published: PublishedImage) -> None:
        """Write a version once; the same id again changes nothing. Raises `ConflictError` for another id."""
        folder = self.root / "versions" / image.name
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        contents = (
            published.image_text.encode(),
            published.list_text.encode(),
            published.list_sig,
            json.dumps(published.envelope, indent=1).encode(),
        )
        for name, content in zip(_FILES, contents, strict=True):
            (fresh / name).write_bytes(content)
            _sync(fresh / name)
        fresh.chmod(0o755)
        target = folder / image.version
        try:
            fresh.rename(target)
        except OSError:
            shutil.rmtree(fresh)
            self._check_same(image)
        _sync(folder)

    def read(self, recipe: str, version: str) -> PublishedImage:
        """Return a version. Raises `NotFound`, naming the versions that there are, or `TrustError` for a damaged one."""
        folder = self.root / "versions" / recipe / version
        try:
            image_text, list_text, list_sig, envelope = (folder.joinpath(name).read_bytes() for name in _FILES)
            return PublishedImage(image_text.decode(), list_text.decode(), list_sig, json.loads(envelope))
        except FileNotFoundError as error:
            if folder.is_dir():
                raise _damaged(recipe, version, f"{error.filename} is missing") from error
            known = ", ".join(self.versions(recipe)) or "none"
            raise NotFound(
                f"the store has no version {version} of {recipe}",
                details=f"versions of {recipe}: {known}",
                resolution=f"bake it: qtrade bake --recipe {recipe} --version {version}",
            ) from error
        except ValueError as error:
            raise _damaged(recipe, version, str(error)) from error

    def versions(self, recipe: str) -> tuple[str, ...]:
        """Return the versions of a recipe in natural order."""
        folder = self.root / "versions" / recipe
        names = [path.name for path in folder.glob("[!.]*")] if folder.is_dir() else []
        return tuple(sorted(names, key=_natural))

    def _check_same(self, image: Image) -> None:
        existing = Image.model_validate_json(self.read(image.name, image.version).image_text)
        if existing.id != image.id:
            raise ConflictError(
                f"version {image.version} of {image.name} exists with another id",
                details=f"in the store: {existing.id}\nbaked now:    {image.id}",
                resolution="choose another version: a version is written once",
            )


def _damaged(recipe: str, version: str, details: str) -> TrustError:
    return TrustError(
        f"{recipe} {version} is damaged in the store",
        details=details,
        resolution="bake the version again under another number; this one must not be used",
    )


def _natural(name: str) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def _write_whole(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as sink:
        sink.write(content)
        sink.flush()
        os.fsync(sink.fileno())
    Path(sink.name).chmod(0o644)
    Path(sink.name).rename(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
