"""Hard gates: values of a host against bounds, look by look."""

from dataclasses import dataclass

from flash.judge.record import Finding, Verdict
from flash.judge.series import Point, Series
from qtrade.manifest.gates import GateKind, Gates, HardGate
from qtrade.manifest.metrics import METRICS, Metric


@dataclass(frozen=True)
class _Tally:
    """What the looks at one host came to. Looks that nobody recorded are errors too; `silent` is the longest run of them that counts."""

    failed: tuple[Point, ...]
    good: int
    silent: int
    why_silent: str
    good_at_the_end: int


def judge_hard(gates: Gates, metric: Metric, series: Series, host: str, start: float, until: float) -> Finding:
    """Say what the gate says of one host, from the looks after `start` (the warm-up is over) up to `until`.

    As Argo Rollouts assesses a metric: more failures than `failure_limit` fail it, whatever else holds; else more errors in a row than
    `consecutive_error_limit` end it without success; else it passes with `minimum_samples` looks (Argo's `count`) and with
    `consecutive_success_limit` good ones in a row at the end; neither failed nor satisfied is inconclusive.

    Two things differ. Errors never fail: missing data pause a rollout, and count no more once that many good looks in a row have followed
    them. And a look that nobody recorded is an error: where no sample is, nobody looked.
    """
    gate = gates.hard[metric]
    looks = series.looks(host, metric, start, until, apart_s=gates.interval_s / 2)
    tally = _count(gate, looks, start, until, gates.interval_s)
    say = _Sayer(metric, host, looks)
    if len(tally.failed) > gate.failure_limit:
        worst = tally.failed[gate.failure_limit]
        return say(
            Verdict.FAIL,
            f"{_out_of_bounds(gate, metric, worst)}; {_times(len(tally.failed))}, {gate.failure_limit} allowed",
            worst,
        )
    if tally.silent > gate.consecutive_error_limit:
        return say(Verdict.INCONCLUSIVE, f"{tally.silent} looks in a row brought nothing: {tally.why_silent}")
    seen = tally.good + len(tally.failed)
    if seen < gate.minimum_samples:
        return say(Verdict.INCONCLUSIVE, f"{seen} looks so far, {gate.minimum_samples} are needed")
    if tally.good_at_the_end < gate.consecutive_success_limit:
        wanted = f"{tally.good_at_the_end} good looks in a row at the end, {gate.consecutive_success_limit} are needed"
        return say(Verdict.INCONCLUSIVE, wanted, tally.failed[-1] if tally.failed else None)
    tolerated = f", {_times(len(tally.failed))} out of them, as allowed" if tally.failed else ""
    return say(Verdict.PASS, f"{tally.good} looks within bounds{tolerated}")


@dataclass(frozen=True)
class _Sayer:
    metric: Metric
    host: str
    looks: tuple[Point, ...]

    def __call__(self, verdict: Verdict, why: str, point: Point | None = None) -> Finding:
        shown = point or (self.looks[-1] if self.looks else None)
        return Finding(self.metric, self.host, verdict, why, shown.sample if shown else None, GateKind.HARD)


def is_good(gate: HardGate, value: float) -> bool:
    """Say whether a value is within the gate's bounds."""
    return (gate.at_most is None or value <= gate.at_most) and (gate.at_least is None or value >= gate.at_least)


def _count(gate: HardGate, looks: tuple[Point, ...], start: float, until: float, interval_s: float) -> _Tally:
    forgiven_after = gate.consecutive_success_limit or gate.minimum_samples
    failed: list[Point] = []
    good = run = row = silent = 0
    why = why_silent = ""
    last_at = start
    for point in looks:
        missed = _missed(point.at - last_at, interval_s)
        last_at = point.at
        errors = missed + (point.value is None)
        if errors:
            run, row = run + errors, 0
            why = point.sample.detail or "no value" if point.value is None else "nobody looked"
            if run > silent:
                silent, why_silent = run, why
        if point.value is None:
            continue
        run = 0
        if is_good(gate, point.value):
            good, row = good + 1, row + 1
        else:
            failed.append(point)
            row = 0
        if row >= forgiven_after and silent:
            silent, why_silent = 0, ""
    tail = run + _missed(until - last_at, interval_s)
    if tail > silent:
        silent, why_silent = tail, why if run else "nobody looked"
    return _Tally(tuple(failed), good, silent, why_silent, 0 if tail > gate.consecutive_error_limit else row)


def _missed(gap_s: float, interval_s: float) -> int:
    """Return how many looks are missing in a gap between two of them; half an interval late is not missing yet."""
    return max(0, round(gap_s / interval_s) - 1)


def _out_of_bounds(gate: HardGate, metric: Metric, point: Point) -> str:
    unit = f" {METRICS[metric].unit}" if METRICS[metric].unit else ""
    grew = "grew by " if METRICS[metric].is_counter else ""
    value = point.value or 0.0
    is_low = gate.at_least is not None and value < gate.at_least
    bound = f"at least {gate.at_least:g}" if is_low else f"at most {gate.at_most:g}"
    detail = f" ({point.sample.detail})" if point.sample.detail else ""
    return f"{grew}{value:g}{unit}{detail}, {bound} is good"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
