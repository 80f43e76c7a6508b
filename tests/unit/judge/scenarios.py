"""Soaks with known answers: what happens, what the judge has to say, and by which gate."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from flash.judge.record import Judgement, Sample, Verdict
from qtrade.manifest.gates import Gates
from qtrade.manifest.metrics import Metric
from tests.fakes.soaks import DEPLOYED, Change, Soak, on

C, CONTROLS = "canary-1", ("control-1", "control-2", "control-3")
EVERY = (C, *CONTROLS)
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
Alter = Callable[[list[Sample]], list[Sample]]


_JUDGED: dict[str, Judgement] = {}


@dataclass(frozen=True)
class Scenario:
    """One soak. `gate` is the one that decides, where it is not a pass; `alter` changes what was recorded."""

    group: str
    what: str
    soak: Soak
    expected: Verdict
    gate: Metric | None = None
    alter: Alter = list

    def judge(self) -> Judgement:
        """Judge it, once in a process."""
        if self.what not in _JUDGED:
            _JUDGED[self.what] = self.soak.judge(self.alter(self.soak.samples()))
        return _JUDGED[self.what]


GOOD = Soak()
What = Callable[[float, float], float | str | None]


def good(metric: Metric, what: What, hosts: tuple[str, ...] | str = C) -> Soak:
    """Return a soak that is good but for one metric of some hosts."""
    return GOOD.changed(on(hosts, metric, what))


def times(factor: float) -> What:
    return lambda _, v: v * factor


def be(value: float) -> What:
    return lambda *_: value


def after(start: float, what: What, end: float = 1e9) -> What:
    return lambda t, v: what(t, v) if start <= t < end else v


def _silent(
    hosts: tuple[str, ...] | str, start: float = -1e9, end: float = 1e9, why: str = "cannot be reached over SSH"
) -> Change:
    names = (hosts,) if isinstance(hosts, str) else hosts
    return lambda host, _, t, value: why if host in names and start <= t < end else value


def _without(*hosts: str) -> Alter:
    return lambda samples: [one for one in samples if one.host not in hosts]


def _shifted(host: str, seconds: float, after: float) -> Alter:
    def shift(samples: list[Sample]) -> list[Sample]:
        return [replace(one, at=one.at + seconds) if one.host == host and one.at > after else one for one in samples]

    return shift


def _set_back(samples: list[Sample]) -> list[Sample]:
    """Let counters begin anew in the middle."""
    names, found = ("geyser_slot", "metrics_sent", "postgres_writes"), []
    for one in samples:
        is_anew = one.metric in names and one.at > DEPLOYED + 600 and one.value is not None
        found.append(replace(one, value=max(0.0, one.value - 1500)) if is_anew else one)
    return found


THREE = replace(GOOD, canaries=("canary-1", "canary-2", "canary-3"))
OWN = replace(GOOD, before_s=600)
RPC, LAG, SLOT = Metric.RPC_P99_MS, Metric.SLOT_LAG, Metric.SLOT
_SOFT, _DATA, _HARD, _TIME = "Against control hosts", "Missing data", "Bounds", "Time"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(_SOFT, "nothing is wrong", GOOD, PASS),
    Scenario(_SOFT, "three canaries, nothing is wrong", THREE, PASS),
    Scenario(_SOFT, "p99 is 10 % higher: 25 % are tolerated", good(RPC, times(1.1)), PASS),
    Scenario(_SOFT, "p99 is twice as high", good(RPC, times(2)), FAIL, RPC),
    Scenario(_SOFT, "p99 is better", good(RPC, times(0.5)), PASS),
    Scenario(
        _SOFT, "regression in the tail: one look in seven is four times as slow, the median stays",
        good(RPC, lambda t, v: v * 4 if int(t / 15) % 7 == 0 else v), FAIL, RPC,
    ),
    Scenario(_SOFT, "one outlier, twenty times as slow", good(RPC, after(600, times(20), 615)), PASS),
    Scenario(
        _SOFT, "noisy controls: their values scatter over two orders of magnitude, the canary's p99 is 60 % higher",
        GOOD.changed(on(C, RPC, times(1.6)), on(CONTROLS, RPC, lambda t, v: v * 10 ** ((int(t / 15) * 7 % 11) / 5 - 1))),
        INCONCLUSIVE, RPC,
    ),
    Scenario(
        _SOFT, "a control is as slow as the canary", good(RPC, times(2), (C, "control-2")), INCONCLUSIVE, RPC
    ),
    Scenario(_SOFT, "step change: twice as slow from the middle on", good(RPC, after(600, times(2))), FAIL, RPC),
    Scenario(
        _SOFT, "step change in the last quarter: two and a half times as slow",
        good(RPC, after(900, times(2.5))), FAIL, RPC,
    ),
    Scenario(
        _SOFT, "both drift: all hosts are twice as slow from the middle on",
        good(RPC, after(600, times(2)), EVERY), PASS,
    ),
    Scenario(
        _SOFT, "both drift: all hosts slow down evenly to three times",
        good(RPC, lambda t, v: v * (1 + 2 * max(t, 0) / 1200), EVERY), PASS,
    ),
    Scenario(_SOFT, "the controls slow down, the canary does not", good(RPC, after(600, times(2)), CONTROLS), PASS),
    Scenario(
        _SOFT, "the host was twice as slow before it got the version, too",
        OWN.changed(on(C, RPC, times(2))), INCONCLUSIVE, RPC,
    ),
    Scenario(
        _SOFT, "the host was twice as slow before, and is four times as slow now",
        OWN.changed(on(C, RPC, lambda t, v: v * (4 if t > 0 else 2))), FAIL, RPC,
    ),
    Scenario(_SOFT, "one of three canaries is twice as slow", THREE.changed(on("canary-2", RPC, times(2))), FAIL, RPC),
    Scenario(_SOFT, "the processor runs at 70 %", good(Metric.CPU_MHZ, times(0.7)), FAIL, Metric.CPU_MHZ),
    Scenario(
        _SOFT, "200 packets are dropped each second",
        good(Metric.PACKET_DROPS, lambda _, v: v + 200), FAIL, Metric.PACKET_DROPS,
    ),
    Scenario(_SOFT, "the validator makes a third fewer slots", good(SLOT, times(0.67)), FAIL, SLOT),
    Scenario(_SOFT, "nothing scatters, and all hosts are equal", replace(GOOD, noise=0, spread=0), PASS),
    Scenario(
        _DATA, "missing canary: nothing was recorded of it",
        GOOD, INCONCLUSIVE, Metric.CLOCK_OFFSET_S, _without(C),
    ),
    Scenario(
        _DATA, "one dead canary of three: it gives no answer",
        THREE.changed(_silent("canary-2")), INCONCLUSIVE, Metric.CLOCK_OFFSET_S,
    ),
    Scenario(
        _DATA, "the canary falls silent in the middle",
        GOOD.changed(_silent(C, 600)), INCONCLUSIVE, Metric.CLOCK_OFFSET_S,
    ),
    Scenario(
        _DATA, "the canary was silent for three minutes, and has been good for long since",
        GOOD.changed(_silent(C, 300, 480)), PASS,
    ),
    Scenario(_DATA, "the canary misses four looks in a row, as is allowed", GOOD.changed(_silent(C, 600, 655)), PASS),
    Scenario(
        _DATA, "the recorder stopped in the middle",
        GOOD, INCONCLUSIVE, Metric.CLOCK_OFFSET_S, lambda s: [one for one in s if one.at < DEPLOYED + 600],
    ),
    Scenario(_DATA, "no control answers", GOOD.changed(_silent(CONTROLS)), INCONCLUSIVE, Metric.CPU_MHZ),
    Scenario(
        _DATA, "one control answers, two are needed",
        GOOD.changed(_silent(("control-1", "control-2"))), INCONCLUSIVE, Metric.CPU_MHZ,
    ),
    Scenario(
        _DATA, "the controls fall silent in the middle",
        GOOD.changed(_silent(CONTROLS, 600)), INCONCLUSIVE, Metric.CPU_MHZ,
    ),
    Scenario(
        _DATA, "p99 is not told from the middle on, all else is",
        good(RPC, after(600, lambda *_: "rpc_ms cannot be read")), INCONCLUSIVE, RPC,
    ),
    Scenario(
        _DATA, "every third look brings no p99: the slowest may be what is missing",
        good(RPC, lambda t, v: None if int(t / 15) % 3 == 0 else v), INCONCLUSIVE, RPC,
    ),
    Scenario(_DATA, "one of three controls falls silent in the middle", GOOD.changed(_silent("control-1", 600)), PASS),
    Scenario(_DATA, "one of three controls is silent", GOOD.changed(_silent("control-1")), PASS),
    Scenario(
        _DATA, "the slot lag is never known: no reference RPC answers",
        good(LAG, lambda *_: "no reference RPC answers"), INCONCLUSIVE, LAG,
    ),
    Scenario(_DATA, "values that are no numbers", good(LAG, lambda *_: float("nan")), INCONCLUSIVE, LAG),
    Scenario(
        _DATA, "out of bounds, and silent after that: the failure limit wins",
        GOOD.changed(on(C, Metric.FAILED_UNITS, after(300, be(1.0), 350)), _silent(C, 600)), FAIL, Metric.FAILED_UNITS,
    ),
    Scenario(
        _HARD, "the host fell back to its old version",
        good(Metric.VERSION, after(800, be(0.0))), FAIL, Metric.VERSION,
    ),
    Scenario(
        _HARD, "a layer under the root is not the image's",
        good(Metric.WRONG_LAYERS, be(1.0)), FAIL, Metric.WRONG_LAYERS,
    ),
    Scenario(
        _HARD, "one disk is not proven untouched",
        good(Metric.UNPROVEN_DISKS, be(1.0)), FAIL, Metric.UNPROVEN_DISKS,
    ),
    Scenario(
        _HARD, "flapping unit: failed at every tenth look",
        good(Metric.FAILED_UNITS, lambda t, _: float(int(t / 15) % 10 == 0)), FAIL, Metric.FAILED_UNITS,
    ),
    Scenario(
        _HARD, "flapping unit that is up at every look: its restarts tell",
        good(Metric.UNIT_RESTARTS, lambda t, _: 0.1 if int(t / 15) % 8 == 0 else 0.0), FAIL, Metric.UNIT_RESTARTS,
    ),
    Scenario(_HARD, "one restart, as is allowed", good(Metric.UNIT_RESTARTS, after(600, be(0.1), 615)), PASS),
    Scenario(
        _HARD, "the kernel logs a machine check",
        good(Metric.KERNEL_FAULTS, after(700, be(1.0))), FAIL, Metric.KERNEL_FAULTS,
    ),
    Scenario(
        _HARD, "the link came up at 1 Gbit/s of 10",
        good(Metric.LINK_SHORTFALL_MBIT, be(9000.0)), FAIL, Metric.LINK_SHORTFALL_MBIT,
    ),
    Scenario(_HARD, "a data disk is not mounted", good(Metric.MISSING_MOUNTS, be(1.0)), FAIL, Metric.MISSING_MOUNTS),
    Scenario(_HARD, "getHealth says ok, and the node is 500 slots behind", good(LAG, be(500.0)), FAIL, LAG),
    Scenario(
        _HARD, "the lag is above the bound for three looks, as is allowed",
        good(LAG, after(600, be(150.0), 645)), PASS,
    ),
    Scenario(
        _HARD, "the lag rises above the bound for the last two looks: allowed, but not well at the end",
        good(LAG, after(1170, be(150.0))), INCONCLUSIVE, LAG,
    ),
    Scenario(_HARD, "JSON-RPC does not answer", good(Metric.RPC_HEALTHY, be(0.0)), FAIL, Metric.RPC_HEALTHY),
    Scenario(
        _HARD, "the Geyser stream stands still",
        good(Metric.GEYSER_SLOT, after(600, be(0.0))), FAIL, Metric.GEYSER_SLOT,
    ),
    Scenario(
        _HARD, "nothing is written to PostgreSQL",
        good(Metric.POSTGRES_WRITES, be(0.0)), FAIL, Metric.POSTGRES_WRITES,
    ),
    Scenario(
        _HARD, "monitoring does not hear of the host",
        good(Metric.METRICS_SENT, be(0.0)), FAIL, Metric.METRICS_SENT,
    ),
    Scenario(_TIME, "warm-up: everything is bad for the first minute", GOOD.changed(
        on(C, RPC, after(-1e9, times(50), 60)), on(C, LAG, after(-1e9, be(9000.0), 60)),
        on(C, Metric.FAILED_UNITS, after(-1e9, be(1.0), 60)),
    ), PASS),
    Scenario(
        _TIME, "it is bad for a minute longer than the warm-up",
        good(LAG, after(-1e9, be(9000.0), 150)), FAIL, LAG,
    ),
    Scenario(
        _TIME, "too few looks: three minutes after the deploy",
        replace(GOOD, soak_s=180), INCONCLUSIVE, Metric.CPU_MHZ,
    ),
    Scenario(_TIME, "judged at the end of the warm-up", replace(GOOD, soak_s=60), INCONCLUSIVE, Metric.CLOCK_OFFSET_S),
    Scenario(
        _TIME, "the canary's clock is half a minute off",
        good(Metric.CLOCK_OFFSET_S, be(30.0)), FAIL, Metric.CLOCK_OFFSET_S,
    ),
    Scenario(
        _TIME, "clock skew: the canary's samples are marked an hour late",
        GOOD, INCONCLUSIVE, Metric.CLOCK_OFFSET_S, _shifted(C, 3600, 0),
    ),
    Scenario(
        _TIME, "clock skew: the controls' samples are marked twenty seconds late",
        GOOD, PASS, None, _shifted("control-1", 20, 0),
    ),
    Scenario(_TIME, "counters begin anew: the services were restarted by a push", GOOD, PASS, None, _set_back),
    Scenario(_TIME, "the record holds every sample twice, in reverse", GOOD, PASS, None, lambda s: [*reversed(s), *s]),
    Scenario(
        "Gates", "no control, and the environment asks for none", replace(GOOD, controls=(), gates=Gates(minimum_controls=0)), PASS,
    ),
    Scenario("Gates", "no control, and the environment asks for two", replace(GOOD, controls=()), INCONCLUSIVE, Metric.CPU_MHZ),
    Scenario(
        "Gates", "a gate that was left out, with a reason, says nothing",
        replace(GOOD, gates=Gates(without={LAG: "no reference RPC in this network"})).changed(on(C, LAG, be(500.0))), PASS,
    ),
)  # fmt: skip
