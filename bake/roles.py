"""What a role declares: its arguments (meta/argument_specs.yml), what a host may set (config/inputs.yml), what it is (meta/main.yml)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from qtrade.manifest import RoleInputs, load_manifest
from qtrade.manifest.base import Model
from qtrade.settings import Settings

RoleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,40}$")]
ArgumentType = Literal["str", "int", "float", "bool", "list", "dict", "path", "raw"]


class Argument(Model):
    """An argument of a role, as Ansible checks it before the role runs. `options` are the keys of a dictionary."""

    type: ArgumentType
    description: str | tuple[str, ...] = Field(min_length=1)
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    elements: ArgumentType | None = None
    options: "dict[str, Argument]" = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """The description as one text."""
        return self.description if isinstance(self.description, str) else " ".join(self.description)


class EntryPoint(Model):
    """How a role is called: its arguments by name."""

    short_description: str = Field(min_length=1)
    description: str | tuple[str, ...] = Field(min_length=1)
    options: dict[str, Argument] = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """The description as one text."""
        return self.description if isinstance(self.description, str) else "\n\n".join(self.description)


class EntryPoints(Model):
    """The entry points that a role of ours has: one."""

    main: EntryPoint


class ArgumentSpecs(Model):
    """meta/argument_specs.yml."""

    argument_specs: EntryPoints


class Galaxy(Model):
    """`galaxy_info`, as far as it says something of the role."""

    author: str
    description: str = Field(min_length=1)
    license: str
    min_ansible_version: str
    platforms: tuple[dict[str, Any], ...]


class RoleMeta(Model):
    """meta/main.yml. Roles of ours depend on none: layers need each other, in the recipe."""

    galaxy_info: Galaxy
    dependencies: tuple[()] = ()


class ImageSpecs(Model):
    """specs/image.yml: what the role's specs with mark `image` look at besides its own layer and what that stands on.

    `needs` are roles whose layers are there, `interfaces` those of which only the declared interfaces are.
    """

    needs: tuple[RoleName, ...] = ()
    interfaces: tuple[RoleName, ...] = ()

    @model_validator(mode="after")
    def _meets_others(self) -> "ImageSpecs":
        if not self.needs and not self.interfaces:
            raise ValueError(
                "name roles in `needs` or `interfaces`; specs that meet no other role have the mark `layer`"
            )
        twice = sorted(set(self.needs) & set(self.interfaces))
        if twice:
            raise ValueError(f"{twice[0]} is in `needs`, so its interfaces are there: take it out of `interfaces`")
        return self


@dataclass(frozen=True)
class Role:
    """A role and what it declares."""

    name: str
    folder: Path
    meta: RoleMeta
    entry: EntryPoint
    inputs: RoleInputs


def list_roles(settings: Settings) -> tuple[str, ...]:
    """Return the names of the roles."""
    return tuple(sorted(path.name for path in (settings.ansible / "roles").iterdir() if path.is_dir()))


def read_role(settings: Settings, name: str) -> Role:
    """Return what the role declares. Raises `NotFound`, `BadInput`."""
    folder = settings.ansible / "roles" / name
    return Role(
        name=name,
        folder=folder,
        meta=load_manifest(RoleMeta, folder / "meta/main.yml"),
        entry=load_manifest(ArgumentSpecs, folder / "meta/argument_specs.yml").argument_specs.main,
        inputs=load_manifest(RoleInputs, folder / "config/inputs.yml"),
    )
