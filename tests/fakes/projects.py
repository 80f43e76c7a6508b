"""A project on disk with one host, one environment and one published image."""

from pathlib import Path
from typing import Any

import yaml

from bake.image import sign
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.store import Store, open_store
from qtrade.trust.keyring import ensure_keyring
from tests.fakes.examples import blob_bytes, host_fields, make_image


def write_project(
    settings: Settings, *, host: dict[str, Any] | None = None, environment: dict[str, Any] | None = None
) -> None:
    """Write the manifests of host rpc-1 and of its environment."""
    manifests = settings.project / "manifests"
    rules = {"schema_version": 1, "name": "development", "allow_standins": True, **(environment or {})}
    (manifests / "environments/development.yaml").write_text(yaml.safe_dump(rules))
    (manifests / "hosts/rpc-1.yaml").write_text(yaml.safe_dump(host_fields(**(host or {}))))


def publish_image(settings: Settings, **changes: Any) -> Image:
    """Publish the signed image of `make_image`, with its blobs."""
    image = make_image(**changes)
    store = open_store(settings)
    add_blobs(store, image, settings.state_dir)
    store.publish(image, sign(image, ensure_keyring(settings).signer("build")))
    return image


def add_blobs(store: Store, image: Image, folder: Path) -> None:
    """Give the store the blobs of an image of `make_image`, by way of files in `folder`."""
    parts = {layer.role: layer.digest for layer in image.layers}
    parts |= {name: getattr(image, name).digest for name in ("kernel", "initrd", "installer")}
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in parts.items():
        path = folder / f"new-{name}"
        path.write_bytes(blob_bytes(name))
        store.add_blob(path, digest)
