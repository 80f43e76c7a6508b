"""Put layers, kernel and initrd together as an image, sign it, publish it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bake.components import Fetched
from qtrade import __version__
from qtrade.errors import BadInput, Refused
from qtrade.manifest import Image, ImageLayer, Recipe, RoleInputs
from qtrade.manifest.image import ImageBlob, ImageComponent, image_id, render_list
from qtrade.manifest.load import LOADER
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings
from qtrade.signing import STATEMENT_TYPE, SigningKey
from qtrade.store import BlobRecord, PublishedImage

_ARGUMENT = re.compile(r"{{(.*?)}}")
PREDICATE = "https://github.com/qtrade/qtrade/attestation/image/v1"


def assemble(  # noqa: PLR0913 - an image has this many parts
    settings: Settings,
    recipe: Recipe,
    version: str,
    *,
    layers: tuple[BlobRecord, ...],
    kernel: BlobRecord,
    initrd: BlobRecord,
    installer: BlobRecord,
    components: Mapping[str, Fetched],
) -> Image:
    """Return the image of these blobs. Raises `Refused` when it is over the recipe's size budget."""
    needs = {BASE: (), **{layer.role: layer.needs for layer in recipe.layers}}
    parts = tuple(
        ImageLayer(
            role=layer.name,
            key=layer.key,
            digest=layer.digest,
            size=layer.size,
            verity=layer.verity,
            needs=needs[layer.name],
        )
        for layer in layers
    )
    kernel_blob = ImageBlob(digest=kernel.digest, size=kernel.size)
    initrd_blob = ImageBlob(digest=initrd.digest, size=initrd.size)
    total_mib = (sum(part.size for part in parts) + kernel.size + initrd.size) / 2**20
    if total_mib > recipe.size_budget_mib:
        raise Refused(
            f"the image is {total_mib:.0f} MiB, over the budget of {recipe.size_budget_mib} MiB",
            details="\n".join(f"  {part.role}: {part.size / 2**20:.1f} MiB" for part in parts),
            resolution="make the largest layer smaller, or raise size_budget_mib in the recipe",
        )
    list_text = render_list(parts, kernel_blob, initrd_blob, recipe.cmdline)
    used = {name for layer in recipe.layers for name in layer.components}
    return Image(
        name=recipe.name,
        version=version,
        id=image_id(list_text),
        epoch=recipe.epoch,
        layers=parts,
        kernel=kernel_blob,
        kernel_release=kernel.facts["release"],
        initrd=initrd_blob,
        installer=ImageBlob(digest=installer.digest, size=installer.size),
        cmdline=recipe.cmdline,
        components=tuple(
            ImageComponent(name=item.name, version=item.version, sha256=item.sha256, standin=item.standin)
            for name, item in sorted(components.items())
            if name in used
        ),
        inputs={
            layer.role: read_role_inputs(settings, layer.role, {**layer.vars, **layer.toggles})
            for layer in recipe.layers
        },
    )


def sign(image: Image, key: SigningKey) -> PublishedImage:
    """Return the image as it is published: its texts, the list's signature and the signed statement."""
    list_text, image_text = image.list_text(), image.to_json()
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "list", "digest": {"sha256": image.id}},
            {"name": "image.json", "digest": {"sha256": image_id(image_text)}},
        ],
        "predicateType": PREDICATE,
        "predicate": {"name": image.name, "version": image.version, "engine": __version__},
    }
    return PublishedImage(image_text, list_text, key.sign(list_text.encode()), key.envelope(STATEMENT_TYPE, statement))


def read_role_inputs(settings: Settings, role: str, variables: Mapping[str, Any]) -> RoleInputs:
    """Return what a role lets a host set, under the arguments that its layer is baked with. Raises `BadInput`."""
    path = settings.ansible / "roles" / role / "config/inputs.yml"
    return _parse_inputs(path, variables) if path.is_file() else RoleInputs()


def _parse_inputs(path: Path, variables: Mapping[str, Any]) -> RoleInputs:
    try:
        text = _fill_arguments(path, variables)
        declared = RoleInputs.model_validate(yaml.load(text, Loader=LOADER) or {})  # noqa: S506 - a safe one
    except (yaml.YAMLError, KeyError, ValidationError) as error:
        raise BadInput(
            f"{path} is not valid", details=str(error), resolution="correct the fields named above"
        ) from error
    files = []
    for file in declared.files:
        template = path.parent / "templates" / f"{file.path}.j2"
        if not template.is_file():
            raise BadInput(f"{path}: files: {file.path} has no template", resolution=f"write {template}")
        files.append(file.model_copy(update={"template": template.read_text()}))
    return declared.model_copy(update={"files": tuple(files)})


def _fill_arguments(path: Path, variables: Mapping[str, Any]) -> str:
    """Return the declaration with the role's arguments in it, as in `postgresql@{{ postgres_major }}-main.service`.

    Names alone, without Jinja, which takes long to load; qtrade.image.tree renders the host's copy alike. Raises `KeyError` for what is no
    argument.
    """
    text = path.read_text()
    if "{{" not in text:
        return text
    defaults = path.parent.parent / "defaults/main.yml"
    known = yaml.load(defaults.read_text(), Loader=LOADER) if defaults.is_file() else {}  # noqa: S506 - a safe one
    return _ARGUMENT.sub(lambda match: str({**(known or {}), **variables}[match[1].strip()]), text)
