"""Resolve a host's config values: the defaults of the image's roles, below the environment, its hosts of one role, and the host."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from qtrade.errors import BadInput
from qtrade.manifest import Image
from qtrade.manifest.inputs import InputValue, read_cpus

# Environments whose hosts need what `needed_with` of a value says.
_WATCHED = ("staging", "production")
_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict}


class HasConfig(Protocol):
    """A host, as far as config is concerned."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def role(self) -> str:
        """What it is in its environment, such as `rpc`."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """Its own values by name."""
        ...


class HasValues(Protocol):
    """An environment, as far as config is concerned."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The values of all its hosts by name."""
        ...

    @property
    def roles(self) -> Mapping[Any, Mapping[str, Any]]:
        """The values of its hosts of a role, by role; they stand above `config`."""
        ...


@dataclass(frozen=True)
class Given:
    """A value and the place that gives it, such as `environment staging: roles.rpc`."""

    place: str
    value: Any


@dataclass(frozen=True)
class Resolved:
    """One value of a host: how its role declares it, and what gives it, lowest first. The last one counts."""

    role: str
    declared: InputValue
    given: tuple[Given, ...]

    @property
    def value(self) -> Any:
        """What the host gets; None where nothing gives it."""
        return self.given[-1].value if self.given else None


def resolve_values(host: HasConfig, environment: HasValues, image: Image) -> dict[str, Resolved]:
    """Return all values that `image` declares, by name. Raises `BadInput` for an unknown, missing or wrongly typed value."""
    declared = {name: (role, value) for role, inputs in image.inputs.items() for name, value in inputs.values.items()}
    unknown = sorted(set(host.config) - set(declared))
    if unknown:
        raise BadInput(
            f"host {host.name}: config.{unknown[0]} is no value that {image.name} {image.version} knows",
            details=f"known: {', '.join(sorted(declared))}",
            resolution="correct the name, or remove it",
        )
    found = {
        name: Resolved(role, value, _given(name, value, host, environment, role))
        for name, (role, value) in declared.items()
    }
    for name, one in found.items():
        _check(host, name, one)
    _check_cpus(host, found)
    if environment.name in _WATCHED:
        _check_needed(host, environment.name, found)
    return found


def _given(name: str, value: InputValue, host: HasConfig, environment: HasValues, role: str) -> tuple[Given, ...]:
    places = (
        (f"environment {environment.name}: config", environment.config),
        (f"environment {environment.name}: roles.{host.role}", environment.roles.get(host.role, {})),
        (f"host {host.name}: config", host.config),
    )
    default = () if value.required else (Given(f"default of {role}", value.default),)
    return (*default, *(Given(place, values[name]) for place, values in places if name in values))


def _check(host: HasConfig, name: str, one: Resolved) -> None:
    if not one.given:
        raise BadInput(
            f"host {host.name}: config.{name} is missing",
            details=one.declared.description,
            resolution=f"set config.{name} ({one.declared.type}) in the host's or the environment's manifest",
        )
    problem = None if one.value is None else _problem_with(one.value, one.declared)
    if problem:
        raise BadInput(
            f"host {host.name}: config.{name} {problem}",
            details=f"it comes from {one.given[-1].place}",
            resolution="correct the value",
        )


def _problem_with(found: Any, value: InputValue) -> str | None:
    if not isinstance(found, _TYPES[value.type]) or (value.type == "int" and isinstance(found, bool)):
        return f"is {found!r:.60}, not a {value.type}"
    return value.problem_with(found)


def _check_needed(host: HasConfig, environment: str, values: dict[str, Resolved]) -> None:
    for name, one in values.items():
        given = [other for other in one.declared.needed_with if other in values and values[other].value]
        if given and not one.value:
            raise BadInput(
                f"host {host.name}: config.{given[0]} is set, and config.{name} is not: in {environment} it has to be",
                details=one.declared.description,
                resolution=f"set config.{name} ({one.declared.type}) in the host's or the environment's manifest",
            )


def _check_cpus(host: HasConfig, values: dict[str, Resolved]) -> None:
    for name, one in values.items():
        for other in one.declared.apart_from:
            taken = read_cpus(values[other].value) if other in values else frozenset[int]()
            shared = sorted(read_cpus(one.value) & taken)
            if shared:
                raise BadInput(
                    f"host {host.name}: config.{name} and config.{other} both name CPU {', '.join(map(str, shared))}",
                    details=one.declared.description,
                    resolution=f"give config.{name} other CPUs",
                )
