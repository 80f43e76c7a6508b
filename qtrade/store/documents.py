"""What a store holds besides blobs, and the bytes that stand for it (docs/architecture.md, "Store")."""

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Any

CHANNELS = ("dev", "staging", "production")


@dataclass(frozen=True)
class BlobRecord:
    """What a key led to: a layer, kernel or initrd, or a check that passed (then without a blob: digest is empty).

    `verity` is the fs-verity digest of a layer. `facts` are small things that later steps need, such as the kernel's
    release. The paths of a layer are many, and stand beside the record: `Store.paths`.
    """

    key: str
    name: str
    digest: str = ""
    size: int = 0
    verity: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "BlobRecord":
        """Read a record. Raises `ValueError` for anything else, such as a record of an earlier format."""
        try:
            return cls(**json.loads(content))
        except TypeError as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True)
class PublishedImage:
    """A version as it stands in the store. Nothing of it is checked yet: `flash` and `images verify` do that."""

    image_text: str
    list_text: str
    list_sig: bytes
    envelope: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return the one document of a version, as JSON."""
        fields = {
            "schema_version": 1,
            "image": self.image_text,
            "list": self.list_text,
            "list_sig": base64.b64encode(self.list_sig).decode(),
            "envelope": self.envelope,
        }
        return json.dumps(fields, sort_keys=True, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "PublishedImage":
        """Read the document of a version. Raises `ValueError`."""
        fields = _mapping(content)
        try:
            if fields["schema_version"] != 1:
                raise ValueError(f"schema_version is {fields['schema_version']!r}; this qtrade reads 1")
            signature = base64.b64decode(fields["list_sig"], validate=True)
            return cls(fields["image"], fields["list"], signature, fields["envelope"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{error!r}") from error

    def document(self) -> dict[str, Any]:
        """Return the image document as plain values, for readers that need no model. Raises `ValueError`."""
        return _mapping(self.image_text)


@dataclass(frozen=True)
class ChannelPointer:
    """Where a channel points: a version, its image id, and a number that only grows."""

    version: str
    image_id: str
    sequence: int

    def to_bytes(self) -> bytes:
        """Return the pointer as JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "ChannelPointer":
        """Read a pointer. Raises `ValueError`."""
        try:
            return cls(**_mapping(content))
        except TypeError as error:
            raise ValueError(str(error)) from error


def _mapping(content: bytes | str) -> dict[str, Any]:
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - the content is wrong, not the caller's type
    return fields
