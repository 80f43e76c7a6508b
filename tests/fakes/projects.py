"""A project on disk with one host, one environment and one published image."""

from typing import Any

import yaml

from bake.image import sign
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.signing import ensure_key
from qtrade.store import LocalStore
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
    image, store = make_image(**changes), LocalStore(settings.store)
    parts = {layer.role: layer.digest for layer in image.layers}
    parts |= {name: getattr(image, name).digest for name in ("kernel", "initrd", "installer")}
    for name, digest in parts.items():
        path = store.root / name
        path.write_bytes(blob_bytes(name))
        store.add_blob(path, digest)
    store.publish(image, sign(image, ensure_key(settings.keys_dir, "build")))
    return image
