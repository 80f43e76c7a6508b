"""Render a host's config bundle: the files that the image declares, from the values of environment and host."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment as Jinja
from jinja2 import StrictUndefined, TemplateError

from flash.values import HasConfig, HasValues, resolve_values
from qtrade.errors import BadInput
from qtrade.manifest import Image
from qtrade.manifest.image import canonical_json, image_id
from qtrade.manifest.inputs import InputFile
from qtrade.signing import BUNDLE_TYPE, SigningKey

_SPACING: Any = {"keep_trailing_newline": True, "trim_blocks": True, "lstrip_blocks": True}


@dataclass(frozen=True)
class ConfigFile:
    """A rendered file; `path` is relative to the generation."""

    path: str
    mode: str
    owner: str
    group: str
    content: str


@dataclass(frozen=True)
class Bundle:
    """All files of one config generation of one host, for one image, with the values that they were rendered from."""

    host: str
    image: str
    files: tuple[ConfigFile, ...]
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return a SHA-256 over host, image and files: equal digests, equal config."""
        return image_id(canonical_json(self.payload(0)))

    def payload(self, generation: int) -> dict[str, Any]:
        """Return the document that is signed (docs/architecture.md, "Job")."""
        return {
            "schema_version": 1,
            "host": self.host,
            "generation": generation,
            "image": self.image,
            "files": [
                {
                    "path": file.path,
                    "mode": file.mode,
                    "owner": file.owner,
                    "group": file.group,
                    "content": base64.b64encode(file.content.encode()).decode(),
                }
                for file in self.files
            ],
            "values": dict(self.values),
        }

    def envelope(self, generation: int, key: SigningKey) -> dict[str, Any]:
        """Return the signed bundle."""
        return key.envelope(BUNDLE_TYPE, self.payload(generation))


def render_bundle(host: HasConfig, environment: HasValues, image: Image) -> Bundle:
    """Return the bundle of `host` for `image`. Raises `BadInput` for an unknown, missing or wrongly typed value."""
    values = {name: one.value for name, one in resolve_values(host, environment, image).items()}
    jinja = Jinja(autoescape=False, undefined=StrictUndefined, **_SPACING)  # noqa: S701 - config files, not HTML
    files: list[ConfigFile] = []
    for inputs in image.inputs.values():
        for file in inputs.files:
            files += _render_file(jinja, file, values, host)
    return Bundle(host.name, image.id, tuple(sorted(files, key=lambda file: file.path)), values)


def read_bundle(envelope: Any) -> Bundle | None:
    """Return the bundle that a host says it keeps, None where it is malformed. For comparison only: nobody's signature is checked."""
    try:
        fields = json.loads(base64.b64decode(envelope["payload"]))
        files = [
            ConfigFile(
                path=str(one["path"]),
                mode=str(one["mode"]),
                owner=str(one["owner"]),
                group=str(one["group"]),
                content=base64.b64decode(one["content"]).decode(),
            )
            for one in fields["files"]
        ]
        return Bundle(str(fields["host"]), str(fields["image"]), tuple(files), dict(fields.get("values") or {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def value_of(host: HasConfig, environment: HasValues, image: Image, name: str) -> Any:
    """Return what `name` has as value on `host`. Raises `BadInput` as `render_bundle`."""
    return resolve_values(host, environment, image)[name].value


def _render_file(jinja: Jinja, file: InputFile, values: dict[str, Any], host: HasConfig) -> list[ConfigFile]:
    items = (values[file.each] or {}).items() if file.each else ((None, None),)
    return [_render_one(jinja, file, {**values, "key": key, "item": item}, host) for key, item in items]


def _render_one(jinja: Jinja, file: InputFile, values: dict[str, Any], host: HasConfig) -> ConfigFile:
    path = file.path.replace("{key}", str(values["key"]))
    try:
        content = jinja.from_string(file.template).render(host=host.name, **values)
    except (TemplateError, TypeError, ValueError) as error:
        raise BadInput(
            f"{file.path} cannot be rendered for host {host.name}",
            details=str(error),
            resolution="correct the values that its template reads",
        ) from error
    return ConfigFile(path, file.mode, str(file.owner), str(file.group), content)
