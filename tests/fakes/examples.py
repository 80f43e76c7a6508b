"""Small valid documents that tests change one thing of."""

import hashlib
from pathlib import Path
from typing import Any

from bake.plan import Inputs
from qtrade.manifest import Environment, Host, Image, ImageLayer, Recipe, RoleInputs
from qtrade.manifest.image import ImageBlob, ImageComponent, image_id, render_list
from qtrade.settings import Settings

EPOCH = 1763856000


def sha(text: str) -> str:
    """Return a digest that stands for `text`."""
    return hashlib.sha256(text.encode()).hexdigest()


def recipe_fields(**changes: Any) -> dict[str, Any]:
    """Return the fields of a recipe: host below app and tool, app below top."""
    fields: dict[str, Any] = {
        "schema_version": 1,
        "name": "demo",
        "epoch": EPOCH,
        "base": {"suite": "trixie", "kernel": "linux-image-amd64", "packages": ["udev"]},
        "cmdline": "quiet",
        "size_budget_mib": 100,
        "components": {
            "agent": {"kind": "source", "path": "agent", "version": "1"},
            "parts": {"kind": "source", "path": "parts", "version": "2", "standin": True},
        },
        "layers": [
            {"role": "host", "packages": ["chrony"], "components": ["agent"]},
            {"role": "app", "needs": ["host"], "vars": {"app_port": 1}, "toggles": {"app_debug": False}},
            {"role": "tool", "needs": ["host"]},
            {"role": "top", "needs": ["app"], "components": ["parts"]},
        ],
    }
    return {**fields, **changes}


def make_recipe(**changes: Any) -> Recipe:
    """Return the recipe of `recipe_fields`."""
    return Recipe.model_validate(recipe_fields(**changes))


def make_inputs(**changes: Any) -> Inputs:
    """Return digests of everything that the recipe of `recipe_fields` reads."""
    fields: dict[str, Any] = {
        "code": {
            kind: {f"bake/{kind}.py": sha(f"code of {kind}")} for kind in ("base", "layer", "initrd", "installer")
        },
        "roles": {role: {f"ansible/roles/{role}/tasks/main.yml": sha(role)} for role in ("host", "app", "tool", "top")},
        "components": {"agent": sha("agent"), "parts": sha("parts")},
        "versions": {
            "base": {"tools": sha("tools")},
            "layer": {"ansible-core": "2.19.14", "tools": sha("tools")},
            "initrd": {},
            "installer": {"tools": sha("tools")},
        },
        "packages": {"base": {"udev": "257 " + sha("udev")}, "host": {"chrony": "4.6 " + sha("chrony")}},
    }
    return Inputs(**{**fields, **changes})


def host_fields(**changes: Any) -> dict[str, Any]:
    """Return the fields of a host manifest with both doors."""
    fields: dict[str, Any] = {
        "schema_version": 1,
        "name": "rpc-1",
        "environment": "development",
        "role": "rpc",
        "recipe": "demo",
        "address": "192.0.2.10",
        "ssh": {"identity_file": "/keys/deploy"},
        "driver": {
            "kind": "redfish",
            "url": "https://192.0.2.11",
            "system": "1",
            "username": "qtrade",
            "password_file": "/keys/bmc",
        },
        "doors": ["in_place", "pxe"],
        "netboot": {"port": 8080, "url": "http://192.0.2.1:8080", "mac": "52:54:00:00:00:01"},
        "os_disk": {"serial": "OS-1", "size_bytes": 4 << 30},
        "protected_disks": [{"serial": "LEDGER-1"}],
        "data_disks": [{"wwid": "eui.01", "mount": "/srv/ledger"}],
    }
    return {**fields, **changes}


def make_host(**changes: Any) -> Host:
    """Return the host of `host_fields`."""
    return Host.model_validate(host_fields(**changes))


def make_environment(**changes: Any) -> Environment:
    """Return an environment that allows stand-ins."""
    fields = {"schema_version": 1, "name": "development", "allow_standins": True}
    return Environment.model_validate({**fields, **changes})


def blob_bytes(name: str) -> bytes:
    """Return the bytes of the blob `name` of the image of `make_image`."""
    return f"bytes of {name}".encode() * 50


def _blob(name: str) -> ImageBlob:
    return ImageBlob(digest=hashlib.sha256(blob_bytes(name)).hexdigest(), size=len(blob_bytes(name)))


def make_image(**changes: Any) -> Image:
    """Return an image of a base and a layer `app`, whose blobs hold `blob_bytes`; its id fits what was changed."""
    layers = tuple(
        ImageLayer(
            role=role, key=sha(role), digest=_blob(role).digest, size=_blob(role).size, verity=sha("v"), needs=()
        )
        for role in ("base", "app")
    )
    fields: dict[str, Any] = {
        "name": "demo",
        "version": "0.1.0",
        "epoch": EPOCH,
        "layers": layers,
        "kernel": _blob("kernel"),
        "kernel_release": "6.12.1",
        "initrd": _blob("initrd"),
        "installer": _blob("installer"),
        "cmdline": "quiet",
        "components": (ImageComponent(name="agent", version="1", sha256=sha("agent"), standin=True),),
        "inputs": {"app": RoleInputs()},
    }
    fields.update(changes)
    text = render_list(fields["layers"], fields["kernel"], fields["initrd"], fields["cmdline"])
    return Image(**{"id": image_id(text), **fields})


def make_settings(folder: Path) -> Settings:
    """Return settings of an empty project and an empty state directory below `folder`."""
    for name in ("manifests/hosts", "manifests/environments", "manifests/images", "ansible/roles", "packer"):
        (folder / "project" / name).mkdir(parents=True)
    state = folder / "state"
    return Settings(project=folder / "project", state_dir=state, store=state / "store")
