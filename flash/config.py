"""Render a host's config bundle: the files that the image declares, from the values of environment and host."""

import base64
from dataclasses import dataclass
from typing import Any, Protocol

from jinja2 import Environment as Jinja
from jinja2 import StrictUndefined, TemplateError

from qtrade.errors import BadInput
from qtrade.manifest import Image
from qtrade.manifest.image import canonical_json, image_id
from qtrade.manifest.inputs import InputFile, InputValue, read_cpus
from qtrade.signing import BUNDLE_TYPE, SigningKey

_SPACING: Any = {"keep_trailing_newline": True, "trim_blocks": True, "lstrip_blocks": True}
# Environments whose hosts need what `needed_with` of a value says.
_WATCHED = ("staging", "production")
_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}


class HasValues(Protocol):
    """An environment, as far as config is concerned: its values by name."""

    @property
    def name(self) -> str:
        """The name of the environment, or of the host."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The values."""
        ...


class HasConfig(HasValues, Protocol):
    """A host, as far as config is concerned."""


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
    """All files of one config generation of one host, for one image."""

    host: str
    image: str
    files: tuple[ConfigFile, ...]

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
        }

    def envelope(self, generation: int, key: SigningKey) -> dict[str, Any]:
        """Return the signed bundle."""
        return key.envelope(BUNDLE_TYPE, self.payload(generation))


def render_bundle(host: HasConfig, environment: HasValues, image: Image) -> Bundle:
    """Return the bundle of `host` for `image`. Raises `BadInput` for an unknown, missing or wrongly typed value."""
    values = _resolve_values(host, environment, image)
    jinja = Jinja(autoescape=False, undefined=StrictUndefined, **_SPACING)  # noqa: S701 - config files, not HTML
    files: list[ConfigFile] = []
    for inputs in image.inputs.values():
        for file in inputs.files:
            files += _render_file(jinja, file, values, host)
    return Bundle(host.name, image.id, tuple(sorted(files, key=lambda file: file.path)))


def value_of(host: HasConfig, environment: HasValues, image: Image, name: str) -> Any:
    """Return what `name` has as value on `host`. Raises `BadInput` as `render_bundle`."""
    return _resolve_values(host, environment, image)[name]


def _resolve_values(host: HasConfig, environment: HasValues, image: Image) -> dict[str, Any]:
    declared: dict[str, InputValue] = {}
    for inputs in image.inputs.values():
        declared.update(inputs.values)
    given = {**environment.config, **host.config}
    unknown = sorted(set(host.config) - set(declared))
    if unknown:
        raise BadInput(
            f"host {host.name}: config.{unknown[0]} is no value that {image.name} {image.version} knows",
            details=f"known: {', '.join(sorted(declared))}",
            resolution="correct the name, or remove it",
        )
    values = {}
    for name, value in declared.items():
        if name not in given and value.required:
            raise BadInput(
                f"host {host.name}: config.{name} is missing",
                details=value.description,
                resolution=f"set config.{name} ({value.type}) in the host's or the environment's manifest",
            )
        found = given.get(name, value.default)
        problem = None if found is None else _problem_with(found, value)
        if problem:
            raise BadInput(f"host {host.name}: config.{name} {problem}", resolution="correct the value")
        values[name] = found
    _check_cpus(host, declared, values)
    if environment.name in _WATCHED:
        _check_needed(host, environment.name, declared, values)
    return values


def _check_needed(host: HasConfig, environment: str, declared: dict[str, InputValue], values: dict[str, Any]) -> None:
    for name, value in declared.items():
        given = [other for other in value.needed_with if values.get(other)]
        if given and not values[name]:
            raise BadInput(
                f"host {host.name}: config.{given[0]} is set, and config.{name} is not: in {environment} it has to be",
                details=value.description,
                resolution=f"set config.{name} ({value.type}) in the host's or the environment's manifest",
            )


def _check_cpus(host: HasConfig, declared: dict[str, InputValue], values: dict[str, Any]) -> None:
    for name, value in declared.items():
        for other in value.apart_from:
            shared = sorted(read_cpus(values[name]) & read_cpus(values.get(other)))
            if shared:
                raise BadInput(
                    f"host {host.name}: config.{name} and config.{other} both name CPU {', '.join(map(str, shared))}",
                    details=value.description,
                    resolution=f"give config.{name} other CPUs",
                )


def _problem_with(found: Any, value: InputValue) -> str | None:
    if not isinstance(found, _TYPES[value.type]) or (value.type == "int" and isinstance(found, bool)):
        return f"is {found!r:.60}, not a {value.type}"
    return value.problem_with(found)


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
