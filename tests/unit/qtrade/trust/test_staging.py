"""What production asks to have been seen on staging: one table of statements and the reason that each leads to."""

from dataclasses import replace
from itertools import product

import pytest

from qtrade.trust.fleet_facts import Bench, Integration, Rollout
from qtrade.trust.policy import rules_for
from qtrade.trust.refusal import Code
from qtrade.trust.staging import StagingDemands, demands_of, refuse_unstaged
from qtrade.trust.statements import Statements
from tests.fakes.examples import make_environment

pytestmark = pytest.mark.unit

ALL = StagingDemands(integration=True, rollout=True, soak_s=1800, load_test=True)
ROLLOUT = Rollout(environment="staging", version="1", hosts=("rpc-1",), soak_s=1800, committed_at=1)
SUITE = Integration(environment="staging", version="1", hosts=("rpc-1",), passed=True, at=1)


def load(hardware_class: str = "A", **changes) -> Bench:
    fields = {
        "kind": "load", "host": "rpc-1", "environment": "staging", "recipe": "demo", "version": "1",
        "hardware_class": hardware_class, "at": 1, "seconds": 60, "metrics": {"bench.rpc_p99_ms": 4.0}, **changes,
    }  # fmt: skip
    return Bench.model_validate(fields)


GOOD = Statements(rollouts=(ROLLOUT,), integrations=(SUITE,), benches=(load(),))
ELSEWHERE = {"environment": "development"}


def codes(said: Statements, demands: StagingDemands = ALL) -> list[Code]:
    return [one.code for one in refuse_unstaged(said, demands)]


def test_what_was_seen_on_staging_is_enough() -> None:
    assert codes(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rollouts": ()}, [Code.NO_ROLLOUT]),
        ({"rollouts": (ROLLOUT.model_copy(update=ELSEWHERE),)}, [Code.NO_ROLLOUT]),
        ({"rollouts": (ROLLOUT.model_copy(update={"soak_s": 1799}),)}, [Code.NOT_SOAKED]),
        # A rollout that soaked long enough is not undone by a later, shorter one.
        ({"rollouts": (ROLLOUT, ROLLOUT.model_copy(update={"soak_s": 1}))}, []),
        ({"integrations": ()}, [Code.NOT_INTEGRATED]),
        ({"integrations": (SUITE.model_copy(update=ELSEWHERE),)}, [Code.NOT_INTEGRATED]),
        ({"integrations": (SUITE, SUITE.model_copy(update={"passed": False}))}, [Code.NOT_INTEGRATED]),
        ({"integrations": (SUITE.model_copy(update={"passed": False}), SUITE)}, []),
        ({"benches": ()}, [Code.NO_LOAD_TEST]),
        ({"benches": (load(kind="host"),)}, [Code.NO_LOAD_TEST]),
        ({"benches": (load(**ELSEWHERE),)}, [Code.NO_LOAD_TEST]),
        ({"benches": (load(), load(passed=False, reasons=["slow"]))}, [Code.LOAD_FAILED]),
        ({"benches": (load(passed=False), load())}, []),
        # Another class does not make it good.
        ({"benches": (load("A", passed=False), load("B"))}, [Code.LOAD_FAILED]),
        ({"rollouts": (), "integrations": (), "benches": ()}, [Code.NO_ROLLOUT, Code.NOT_INTEGRATED, Code.NO_LOAD_TEST]),
    ],
)  # fmt: skip
def test_each_thing_that_is_missing_is_the_reason(changes, expected) -> None:
    assert codes(replace(GOOD, **changes)) == expected


@pytest.mark.parametrize("name", ["integration", "rollout", "load_test"])
def test_what_is_not_asked_for_is_not_missed(name) -> None:
    wanted = replace(ALL, **{name: False})
    assert len(codes(Statements(), wanted)) == 2
    assert codes(Statements(), StagingDemands()) == []


@pytest.mark.parametrize("seen", list(product([True, False], repeat=3)))
@pytest.mark.parametrize("asked", list(product([True, False], repeat=3)))
def test_what_is_asked_for_and_was_not_seen_is_missing_and_nothing_else(seen, asked) -> None:
    rollout, suite, borne = seen
    said = Statements(
        rollouts=(ROLLOUT,) if rollout else (),
        integrations=(SUITE,) if suite else (),
        benches=(load(),) if borne else (),
    )
    wanted = StagingDemands(rollout=asked[0], integration=asked[1], load_test=asked[2], soak_s=1800)
    kinds = (Code.NO_ROLLOUT, Code.NOT_INTEGRATED, Code.NO_LOAD_TEST)
    expected = [kind for kind, was_seen, is_asked in zip(kinds, seen, asked, strict=True) if is_asked and not was_seen]
    assert codes(said, wanted) == expected


def test_production_asks_for_all_of_it_and_the_others_for_nothing() -> None:
    assert demands_of(make_environment(name="production", soak_s=600)) == replace(ALL, soak_s=600)
    assert demands_of(make_environment(name="staging", soak_s=600)) == StagingDemands()
    assert rules_for(make_environment(name="production")).keys == 2
    assert rules_for(make_environment(name="staging")).keys == 1


def test_a_manifest_may_ask_for_less_or_more() -> None:
    less = make_environment(name="production", promotion={"load_test": False, "rollout": False, "keys": 1})
    assert demands_of(less) == StagingDemands(integration=True)
    assert rules_for(less).keys == 1
    more = make_environment(name="staging", promotion={"integration": True})
    assert demands_of(more) == StagingDemands(integration=True)


def test_the_reason_names_host_and_what_failed() -> None:
    said = replace(GOOD, benches=(load(passed=False, reasons=["a", "b", "c", "d"]),))
    (refusal,) = refuse_unstaged(said, ALL)
    assert refusal.reason == "the last load test on A (rpc-1) failed: a; b; c; and 1 more"
