"""The plan of a bake for people and programs, with how long it will take by what it took the last time."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from bake.plan import INITRD, INSTALLER, Action, Step
from qtrade.look import Row, about, render_plan
from qtrade.reporter import Timings


@dataclass(frozen=True)
class BakePlan:
    """Steps of a recipe, and how long each took the last time. `version` is None where only layers are made."""

    recipe: str
    version: str | None
    steps: tuple[Step, ...]
    timings: Timings

    @property
    def expected_s(self) -> float | None:
        """How long all that is made takes, one after the other; None where something of it was never made here."""
        known = [self._expected_s(step) for step in self._to_make()]
        return round(sum(filter(None, known)), 2) if all(one is not None for one in known) else None

    def document(self) -> dict[str, Any]:
        """Return the plan for programs."""
        return {"recipe": self.recipe, "steps": [asdict(step) for step in self.steps], "expected_s": self.expected_s}

    def render(self, *, explain: bool = False, width: int | None = None) -> str:
        """Return the plan for people; with `explain`, every input that changed stands below."""
        made = len(self._to_make())
        counts = (
            f"{made} of {len(self.steps)} steps to make" if made else f"all {len(self.steps)} steps are in the store"
        )
        title = ", ".join(filter(None, (f"bake {self.recipe} {self.version or ''}".rstrip(), about(self.expected_s))))
        rows = [Row(step.action, step.name, step.reason, self._expected_s(step)) for step in self.steps]
        lines = [render_plan(f"{title}: {counts}", rows, width=width)]
        return "\n".join([*lines, *(self._explain() if explain else ())])

    def _to_make(self) -> list[Step]:
        return [step for step in self.steps if step.action is Action.BUILD]

    def _expected_s(self, step: Step) -> float | None:
        """Return what the step took the last time, 0 for one that is in the store."""
        if step.action is Action.HIT:
            return 0.0
        return self.timings.expected_s(step.name if step.name in (INITRD, INSTALLER) else f"layer {step.name}")

    def _explain(self) -> Iterable[str]:
        for step in self.steps:
            for change in step.changes:
                yield f"  {step.name}: {change.field}: {_shown(change.before)} -> {_shown(change.after)}"


def _shown(value: str | None) -> str:
    if value is None:
        return "(none)"
    return f"{value[:12]}…" if len(value) == 64 and value.isalnum() else value
