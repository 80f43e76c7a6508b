"""A store in a folder, keys, and releases made with them."""

from dataclasses import dataclass, field
from typing import Any

from bake.image import sign
from qtrade.manifest import Image
from qtrade.manifest.image import ImageComponent
from qtrade.settings import Settings
from qtrade.signing import STATEMENT_TYPE
from qtrade.store import LocalStore
from qtrade.trust.keyring import Keyring, load_keyring
from qtrade.trust.policy import Channel, Rules
from qtrade.trust.statements import TEST, statement
from tests.fakes.examples import make_image, sha
from tests.fakes.projects import add_blobs

REAL = (ImageComponent(name="agent", version="1", sha256=sha("agent"), standin=False),)


@dataclass
class Room:
    """A store, keys, and what tests do with them."""

    settings: Settings
    store: LocalStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = LocalStore(self.settings.store)

    @property
    def keyring(self) -> Keyring:
        return load_keyring(self.settings)

    def publish(self, version: str = "0.1.0", *, tested: bool = True, **changes: Any) -> Image:
        """Publish an image without stand-ins, signed by the build key, with its blobs and a boot test that passed."""
        image = make_image(version=version, **{"components": REAL, **changes})
        add_blobs(self.store, image, self.settings.state_dir)
        self.store.publish(image, sign(image, self.keyring.signer("build")))
        if tested:
            self.say_passed(version, recipe=image.name)
        return image

    def say_passed(self, version: str, *, recipe: str = "demo") -> None:
        """Attest a boot test of a published version that passed."""
        image_id = self.store.read(recipe, version).document()["id"]
        for firmware in ("bios", "uefi"):
            said = {"kind": "boot", "firmware": firmware, "passed": True, "ran": 9, "failures": []}
            self.say(image_id, TEST, said)

    def say(self, image_id: str, kind: str, predicate: dict[str, Any], role: Any = "build") -> dict[str, Any]:
        """Attest a statement signed by the key of a role, and return its envelope."""
        envelope = self.keyring.signer(role).envelope(STATEMENT_TYPE, statement(image_id, kind, predicate))
        self.store.attest(image_id, envelope)
        return envelope


def blobs_of(image: Image) -> dict[str, str]:
    """Return the digests of the blobs of `make_image` by the names that `blob_bytes` knows."""
    parts = {layer.role: layer.digest for layer in image.layers}
    return {**parts, **{name: getattr(image, name).digest for name in ("kernel", "initrd", "installer")}}


def rules(channel: Channel = "production", *, standins: bool = False, cve: bool = False) -> Rules:
    """Return the rules of the environment that a channel is of."""
    names = {"dev": "development", "staging": "staging", "production": "production"}
    return Rules(names[channel], channel, allow_standins=standins, needs_cve_gate=cve)
