"""What changed between two things that have names: added, removed, changed."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from qtrade.manifest.base import Model


class Change(Model):
    """One name. `before` is empty for what was added, `after` for what was removed."""

    name: str
    before: str = ""
    after: str = ""


class Changes(Model):
    """Three lists, each sorted by name."""

    added: tuple[Change, ...] = ()
    removed: tuple[Change, ...] = ()
    changed: tuple[Change, ...] = ()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.added) + len(self.removed) + len(self.changed)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return self.model_dump(mode="json")


def compare(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """Return what changed between two mappings of name -> value."""
    return Changes(
        added=tuple(Change(name=name, after=after[name]) for name in sorted(after.keys() - before.keys())),
        removed=tuple(Change(name=name, before=before[name]) for name in sorted(before.keys() - after.keys())),
        changed=tuple(
            Change(name=name, before=before[name], after=after[name])
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        ),
    )


def compare_lines(before: Sequence[str], after: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines that went and the lines that came, where order matters: a line that moved is in both."""
    gone: list[str] = []
    came: list[str] = []
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag != "equal":
            gone += before[start:end]
            came += after[new_start:new_end]
    return tuple(gone), tuple(came)
