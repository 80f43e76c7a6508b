"""One bad input, and the ways to spoil what is in order."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.unit.bad_inputs.place import Place

FLASH = "flash --host rpc-1 --dry-run"
BAKE = "bake --recipe demo --version 1 --dry-run"
USAGE, BAD, MISSING, TOOL, TRUST, REFUSED, CONFLICT = 2, 3, 4, 5, 6, 7, 8


@dataclass(frozen=True)
class Case:
    """One bad input. `says` are words that the user must see: file and line, field, value, or the near miss."""

    what: str
    command: str
    code: int
    says: tuple[str, ...]
    spoil: Callable[[Place], None] = lambda place: None

    @property
    def name(self) -> str:
        return self.what.replace(" ", "-")


def put(name: str, text: str) -> Callable[[Place], None]:
    return lambda place: place.write(name, text)


def swap(name: str, old: str, new: str) -> Callable[[Place], None]:
    return lambda place: place.replace(name, old, new)


def add(name: str, text: str) -> Callable[[Place], None]:
    return lambda place: place.append(name, text)


def host(name: str = "rpc-1", **changes: object) -> Callable[[Place], None]:
    return lambda place: place.set_host(name, **changes)


def env(**values: str) -> Callable[[Place], None]:
    return lambda place: place.environment.update({f"QTRADE_{name}": value for name, value in values.items()})
