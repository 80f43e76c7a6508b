"""Images that a rollout found bad: a mark in the store, which stops later promotions and rollouts until somebody lifts it.

It is unsigned on purpose: a controller must be able to stop an image where no key lies, and who may write to the store could as well
delete the image. A revocation is signed, and for good.
"""

import json
import time
from dataclasses import asdict, dataclass, replace

from qtrade.errors import ConflictError, NotFound, TrustError
from qtrade.store.objects import Changed, Missing, Objects, key_of
from qtrade.store.store import Store


@dataclass(frozen=True)
class Block:
    """Why an image is blocked: `reason` names gate, sample and host. `lifted` says why it is not any more; times are Unix seconds."""

    image: str
    recipe: str
    version: str
    environment: str
    rollout: str
    reason: str
    by: str
    at: float
    lifted: str = ""
    lifted_by: str = ""

    def describe(self) -> str:
        """Return it for people."""
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.at))
        return f"{self.reason} (rollout to {self.environment}, {when})"


class Blocks:
    """The blocked images of a store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def find(self, image: str) -> Block | None:
        """Return why an image is blocked, None where it is not. Raises `TrustError` for a damaged mark: it is blocked, too."""
        found = self._read(image)
        return found[0] if found and not found[0].lifted else None

    def add(self, block: Block) -> None:
        """Block an image; the first reason stays while it holds."""
        found = self._read(block.image)
        if found is not None and not found[0].lifted:
            return
        try:
            self._objects.put_if(_key(block.image), _to_bytes(block), found[1] if found else None)
        except Changed:
            if self.find(block.image) is None:
                raise

    def lift(self, image: str, *, reason: str, by: str) -> Block:
        """End a block, and keep what it was for. Raises `NotFound`, `ConflictError`."""
        found = self._read(image)
        if found is None or found[0].lifted:
            raise NotFound(f"image {image[:16]} is not blocked", resolution="see `qtrade images list`")
        lifted = replace(found[0], lifted=reason, lifted_by=by)
        try:
            self._objects.put_if(_key(image), _to_bytes(lifted), found[1])
        except Changed as error:
            raise ConflictError(f"somebody else changed the block of {image[:16]} at the same time") from error
        return lifted

    def _read(self, image: str) -> tuple[Block, str] | None:
        try:
            content, etag = self._objects.get(_key(image))
            fields = json.loads(content)
            del fields["schema_version"]
            return Block(**fields), etag
        except Missing:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise TrustError(
                f"the block of image {image[:16]} is damaged in the store",
                details=str(error),
                resolution=f"find out why it was blocked, then delete {_key(image)} there",
            ) from error


def why_blocked(store: Store, image: str) -> str:
    """Return why an image is blocked, empty where it is not."""
    block = Blocks(store.objects).find(image)
    return block.describe() if block else ""


def _to_bytes(block: Block) -> bytes:
    return json.dumps({"schema_version": 1, **asdict(block)}, sort_keys=True).encode()


def _key(image: str) -> str:
    return f"{key_of('blocked', image)}.json"
