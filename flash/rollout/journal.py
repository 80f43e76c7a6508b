"""The journal of a rollout: one JSON line per event, flushed to disk before what it announces is done."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flash.lines import append_lines, read_lines
from flash.rollout.progress import Event, Progress
from flash.rollout.waves import RolloutPlan
from qtrade.errors import BadInput
from qtrade.settings import Settings

PLANS: TypeAdapter[RolloutPlan] = TypeAdapter(RolloutPlan)
STANDINGS: TypeAdapter[Progress] = TypeAdapter(Progress)


class RolloutJournal:
    """Append-only, one per rollout. `token` is written with every line: who held the environment then."""

    def __init__(self, path: Path, *, token: int = 0) -> None:
        self.path, self.token = path, token

    @property
    def id(self) -> str:
        """Return the name of the rollout."""
        return self.path.stem

    @property
    def samples(self) -> Path:
        """Return the folder of what was observed, a file for each wave."""
        return self.path.with_suffix(".samples")

    @property
    def logs(self) -> Path:
        """Return the folder of what the flash of each host said."""
        return self.path.with_suffix(".hosts")

    def write(self, progress: Progress, news: Sequence[tuple[Event, dict[str, Any]]], at: float) -> None:
        """Append a line for each event, flush them to disk together, then apply them."""
        append_lines(
            self.path,
            ({"at": round(at, 3), "event": event, "token": self.token, **fields} for event, fields in news),
            sync=True,
        )
        for event, fields in news:
            progress.apply(event, at, fields)

    def begin(self, plan: RolloutPlan, at: float) -> Progress:
        """Write the plan; return where the rollout stands then."""
        progress = Progress.at_start(plan)
        self.write(progress, [(Event.BEGUN, {"plan": PLANS.dump_python(plan, mode="json")})], at)
        return progress

    def adopt(self, plan: RolloutPlan, progress: Progress, at: float) -> None:
        """Write plan and standing of a rollout that another machine began."""
        found = {"plan": PLANS.dump_python(plan, mode="json"), "progress": asdict(progress)}
        self.write(progress, [(Event.ADOPTED, found)], at)

    def read(self) -> tuple[RolloutPlan, Progress]:
        """Return the plan and where the rollout stands. Raises `BadInput` for a damaged journal."""
        lines = read_lines(self.path)
        try:
            first = next(lines)
            plan = PLANS.validate_python(first["plan"])
            progress = Progress.at_start(plan)
            for line in chain((first,), lines):
                if line["event"] == Event.ADOPTED:
                    progress = STANDINGS.validate_python(line["progress"])
                progress.apply(Event(line["event"]), line["at"], line)
        except (StopIteration, KeyError, ValueError, TypeError, ValidationError) as error:
            raise BadInput(
                f"{self.path} is no journal of a rollout", details=str(error)[:500], resolution="move the file away"
            ) from error
        return plan, progress


def new_journal(settings: Settings, environment: str) -> RolloutJournal:
    """Return the journal of a rollout that begins now."""
    now = time.time_ns()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now // 10**9))
    return journal_of(settings, environment, f"{stamp}-{now % 10**9 // 1000:06}")


def journal_of(settings: Settings, environment: str, name: str) -> RolloutJournal:
    """Return the journal of that rollout on this machine, whether there is one or not."""
    return RolloutJournal(settings.state_dir / "rollouts" / environment / f"{name}.jsonl")
