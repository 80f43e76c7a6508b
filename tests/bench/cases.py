"""The words of the bench: its cases, a measured run, and what a peer has to offer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from qtrade.manifest import Recipe
from qtrade.settings import Settings


class Case(StrEnum):
    """What changed since the last bake."""

    COLD = "cold"
    DEBS = "debs"
    NOTHING = "nothing"
    LAST = "last"
    MIDDLE = "middle"
    LOW = "low"


TITLES = {
    Case.COLD: "cold",
    Case.DEBS: "cold, .debs cached",
    Case.NOTHING: "nothing changed",
    Case.LAST: "last layer changed",
    Case.MIDDLE: "a middle layer changed",
    Case.LOW: "the lowest layer changed",
}
# The lowest role, below all others; one in the middle, with one layer above it; and the last.
CHANGED = {Case.LOW: "bare_metal", Case.MIDDLE: "postgres", Case.LAST: "qtrade_client"}


@dataclass(frozen=True)
class Job:
    """A program to measure: its arguments, what its environment has on top and its time limit.

    `left` is asked after the run for the files or folders of the image, whose sizes count.
    """

    argv: tuple[str, ...]
    left: Callable[[], tuple[Path, ...]]
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 600


@dataclass(frozen=True)
class Bench:
    """What a peer works with: the settings of this checkout, its own copy of the project, which it may change, and the recipe.

    `debs` is a folder with most .debs of the image, to fill archives from; `pool` has the .debs of the stand-ins.
    """

    settings: Settings
    project: Path
    recipe: Recipe
    debs: Path
    pool: Path


class Peer(Protocol):
    """A tool that bakes. Everything that it writes is below its folder.

    `same_as` names, for cases that would be the same work again, the case that stands for them; `left_out` says of
    cases that it is not asked for why not; `note` says in a sentence what it bakes and what it cannot do. One that `is_emulated` is so
    slow that it goes last, without a first bake that is not counted.
    """

    name: str
    note: str
    same_as: Mapping[Case, Case]
    left_out: Mapping[Case, str]
    is_emulated: bool

    def missing(self) -> str | None:
        """Return why it cannot run on this machine, or nothing."""

    def version(self) -> str:
        """Return its version, for the table."""

    def prepare(self, case: Case, number: int) -> Job:
        """Bring its folder into the state that the case begins with, unmeasured; return what to measure."""
