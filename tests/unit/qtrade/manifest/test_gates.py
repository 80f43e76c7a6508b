"""Gates of environments: what is given stands above the defaults, what is left out has a reason, what holds nothing is refused."""

from pathlib import Path

import pytest

from qtrade.errors import BadInput
from qtrade.manifest import METRICS, Environment, Gates, Metric, load_manifest, load_text
from qtrade.manifest.gates import HARD, SOFT, GateKind

pytestmark = pytest.mark.unit
COMMITTED = Path(__file__).resolve().parents[4] / "manifests/environments"


def load(text: str) -> Gates:
    return load_text(
        Environment, f"schema_version: 1\nname: production\ngates: {text}\n", source="production.yaml"
    ).gates


def test_defaults_are_safe() -> None:
    gates = load("{}")
    assert (gates.hard, gates.soft) == (HARD, SOFT)
    assert gates.minimum_controls == 2
    assert gates.hard[Metric.FAILED_UNITS].at_most == 0
    assert all(gate.consecutive_success_limit > 0 for gate in gates.hard.values())


@pytest.mark.parametrize("name", ["development", "staging", "production"])
def test_the_committed_ones_leave_little_out(name) -> None:
    gates = load_manifest(Environment, COMMITTED / f"{name}.yaml").gates
    assert gates.active(GateKind.HARD)
    assert bool(gates.without) == (name == "development")


def test_what_is_given_of_a_gate_stands_above_its_default() -> None:
    gates = load("{hard: {slot_lag: {at_most: 50}, version: {at_most: 1}}, soft: {bench_rpc_ms: {worse_by: 0.1}}}")
    lag, version = gates.hard[Metric.SLOT_LAG], gates.hard[Metric.VERSION]
    assert (lag.at_most, lag.failure_limit) == (50, 3)
    # A bound of one's own replaces those of the default.
    assert (version.at_most, version.at_least) == (1, None)
    assert set(gates.soft) == {*SOFT, Metric.BENCH_RPC_MS}
    assert set(gates.hard) == set(HARD)


def test_a_gate_is_left_out_with_a_reason() -> None:
    gates = load("{without: {slot_lag: no reference RPC can be reached}}")
    assert Metric.SLOT_LAG not in gates.active(GateKind.HARD)
    assert Metric.SLOT_LAG in gates.hard


def test_gates_of_roles_that_an_image_does_not_have_do_not_count() -> None:
    gates = Gates().for_roles(("bare_metal", "agave", "postgres"))
    assert Metric.SLOT_LAG in gates.active(GateKind.HARD)
    assert Metric.VERSION in gates.active(GateKind.HARD)
    assert not {Metric.GEYSER_SLOT, Metric.POSTGRES_WRITES, Metric.METRICS_SENT} & set(gates.active(GateKind.HARD))
    assert Gates().hard_only().active(GateKind.SOFT) == ()


def test_every_metric_says_what_it_is() -> None:
    assert METRICS.keys() == set(Metric)
    assert all(len(facts.says) > 15 for facts in METRICS.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{hard: {slotlag: {at_most: 5}}}", "did you mean slot_lag?"),
        ("{hard: {slot_lag: {failure_limit: -1}}}", "gates.hard.slot_lag.failure_limit"),
        ("{hard: {rpc_p99_ms: {failure_limit: 1}}}", "give at_most, at_least or both"),
        ("{hard: {slot: {at_most: 1, at_least: 2}}}", "no value is good"),
        ("{hard: {slot_lag: {at_most: .inf}}}", "gates.hard.slot_lag.at_most"), ("{soft: {cpu_mhz: {worse: 1}}}", "did you mean worse_by?"),
        ("{soft: {bench_rpc_ms: {}}}", "worse_by: is required"), ("{soft: {cpu_mhz: {minimum_samples: 1}}}", "minimum_samples"),
        ("{without: {slot_lag: no}}", "gates.without.slot_lag"), ("{without: {slot_lag: short}}", "gates.without.slot_lag"),
        ("{without: {" + ", ".join(f"{name}: nothing is looked at" for name in {*HARD, *SOFT}) + "}}", "nothing could pass"),
        ("{interval_s: 0}", "gates.interval_s"), ("{confidence: 1}", "gates.confidence"), ("{hard: 3}", "gates.hard"),
    ],
)  # fmt: skip
def test_what_is_refused(text, said) -> None:
    with pytest.raises(BadInput) as caught:
        load(text)
    assert said in caught.value.details
