"""What must have been seen of an image on staging's hosts before it may go on. Pure: statements and demands in, reasons out."""

from collections.abc import Iterator
from dataclasses import dataclass

from qtrade.manifest import Environment
from qtrade.trust.refusal import Code, Refusal
from qtrade.trust.statements import Statements

STAGING = "staging"
_SHOWN = 3


@dataclass(frozen=True)
class StagingDemands:
    """What is asked for; `soak_s` is how long the hosts of the rollout must have run the image under judgement."""

    integration: bool = False
    rollout: bool = False
    soak_s: int = 0
    load_test: bool = False


def demands_of(environment: Environment) -> StagingDemands:
    """Return what an environment asks for: what its manifest leaves out, production asks for, and the others do not."""
    asked, is_strict = environment.promotion, environment.name == "production"

    needs_rollout, integration, load_test = (
        is_strict if given is None else given for given in (asked.rollout, asked.integration, asked.load_test)
    )
    soak_s = asked.soak_s if asked.soak_s is not None else environment.soak_s if is_strict else 0
    return StagingDemands(
        integration=integration,
        rollout=needs_rollout,
        soak_s=soak_s if needs_rollout else 0,
        load_test=load_test,
    )


def refuse_unstaged(statements: Statements, demands: StagingDemands) -> tuple[Refusal, ...]:
    """Return what is missing, or speaks against the image."""
    return (
        *(_refuse_rollouts(statements, demands) if demands.rollout else ()),
        *(_refuse_integration(statements) if demands.integration else ()),
        *(_refuse_loads(statements) if demands.load_test else ()),
    )


def _refuse_rollouts(statements: Statements, demands: StagingDemands) -> Iterator[Refusal]:
    """Of several rollouts the one that soaked longest counts: a later one takes nothing away from what it showed."""
    soaked = [one.soak_s for one in statements.rollouts if one.environment == STAGING]
    if not soaked:
        yield Refusal(Code.NO_ROLLOUT, "no rollout of it through staging was committed")
    elif max(soaked) < demands.soak_s:
        yield Refusal(
            Code.NOT_SOAKED,
            f"it soaked {max(soaked)} s on staging's hosts, {demands.soak_s} s are asked for",
        )


def _refuse_integration(statements: Statements) -> Iterator[Refusal]:
    runs = [one for one in statements.integrations if one.environment == STAGING]
    if not runs:
        yield Refusal(Code.NOT_INTEGRATED, "the integration suite did not run on staging's hosts")
    elif not runs[-1].passed:
        yield Refusal(Code.NOT_INTEGRATED, f"the integration suite failed: {_first(runs[-1].failures)}")


def _refuse_loads(statements: Statements) -> Iterator[Refusal]:
    """Go by the last load of each hardware class: one that failed is not made good by another class."""
    loads = [one for one in statements.benches if one.kind == "load" and one.environment == STAGING]
    last = {one.hardware_class: one for one in loads}
    if not last:
        yield Refusal(Code.NO_LOAD_TEST, "no host of staging bore a load test with it")
    for name, one in sorted(last.items()):
        if not one.passed:
            yield Refusal(Code.LOAD_FAILED, f"the last load test on {name} ({one.host}) failed: {_first(one.reasons)}")


def _first(reasons: tuple[str, ...]) -> str:
    more = len(reasons) - _SHOWN
    return "; ".join((*reasons[:_SHOWN], *((f"and {more} more",) if more > 0 else ()))) or "no reason is given"
