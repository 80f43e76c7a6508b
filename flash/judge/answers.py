"""What a host's probe answered, as typed values, and the samples that it makes. Pure."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from flash.judge.record import Sample
from flash.verify import count_points
from qtrade.errors import HostError
from qtrade.manifest.metrics import Metric

_SHOWN = 3
_APART_S = 1.0
BENCHES = tuple(metric for metric in Metric if metric.startswith("bench_"))
WATCHED = tuple(metric for metric in Metric if metric not in BENCHES)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class StatusPart(_Part):
    """Which host answers, and what it runs."""

    host: str
    image: str
    state: str


class ClockPart(_Part):
    """Whether a time source vouches for the clock, and its error by that source, in seconds."""

    synchronised: bool
    error_s: float


class KernelPart(_Part):
    """Lines of faults in the kernel's log, and the last one."""

    faults: int
    last: str


class ReadyPart(_Part):
    """What the validator's own program says."""

    health: str | None
    slot: int | None
    lag: int | None
    reasons: tuple[str, ...]


class LatencyPart(_Part):
    """Quantiles of JSON-RPC calls, in milliseconds, and of how many."""

    p50: float
    p99: float
    calls: int


class StreamPart(_Part):
    """The newest slot that Subscribe brought, 0 for none, and what the client said."""

    slot: int
    said: str


class Parts(_Part):
    """The parts; None where one could not be read."""

    status: StatusPart | None
    layers: tuple[str, ...] | None
    units: tuple[str, ...] | None
    restarts: int | None
    clock: ClockPart | None
    link_mbit: int | None
    drops: int | None
    mounts: tuple[str, ...] | None
    kernel: KernelPart | None
    cpu_mhz: float | None
    ready: ReadyPart | None
    rpc_ms: LatencyPart | None
    geyser: StreamPart | None
    postgres_rows: int | None
    telemetry: str | None


class Answer(_Part):
    """All that a host told, and when by its own clock; `errors` says by part why one is missing."""

    schema_version: int
    began: float
    ended: float
    parts: Parts
    errors: dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """What a host is to be: its image by id, layers by digest, mounts, link. `unproven_disks` is None where no flash says."""

    host: str
    image: str
    layers: tuple[str, ...]
    mounts: tuple[str, ...]
    link_mbit: int
    unproven_disks: int | None = None
    unproven_why: str = ""


Value = tuple[float | None, str]


def parse_answer(text: str, host: str) -> Answer:
    """Return what the probe of `host` printed. Raises `HostError` for anything else."""
    try:
        found = Answer.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise HostError(
            f"{host}: what it tells of itself cannot be read",
            details=f"{'.'.join(map(str, first['loc']))}: {first['msg']}; {text[-200:]!r}",
            resolution="log in as its operator and look whether python3 runs there",
        ) from error
    return found


def silent(host: str, at: float, why: str) -> list[Sample]:
    """Return the samples of a host that gave no answer: a None of each metric, with the reason."""
    return [Sample(host, metric, at, None, why) for metric in WATCHED]


def samples_of(wanted: Wanted, answer: Answer, asked_at: float, at: float) -> list[Sample]:
    """Return a sample of each metric, by when the host was asked and when it had answered. What another host says is no answer."""
    parts = answer.parts
    if parts.status is not None and parts.status.host != wanted.host:
        return silent(wanted.host, at, f"the host that answers calls itself {parts.status.host}")
    # So far apart the clocks are at least: the host cannot have begun before it was asked, nor ended after it answered.
    apart_s = max(0.0, asked_at - answer.began, answer.ended - at)
    read = _Reader(wanted, answer, apart_s)
    return [Sample(wanted.host, metric, at, *read.value(metric)) for metric in WATCHED]


class _Reader:
    """Finds each metric's value in an answer."""

    def __init__(self, wanted: Wanted, answer: Answer, apart_s: float) -> None:
        self._wanted, self._parts, self._errors, self._apart_s = wanted, answer.parts, answer.errors, apart_s
        parts = answer.parts
        self._readers = {
            Metric.VERSION: ("status", self._version),
            Metric.WRONG_LAYERS: ("layers", self._layers),
            Metric.FAILED_UNITS: ("units", lambda: _count(parts.units or ())),
            Metric.UNIT_RESTARTS: ("restarts", lambda: (parts.restarts, "")),
            Metric.CLOCK_SYNCHRONISED: (
                "clock",
                lambda: (float(parts.clock.synchronised), "") if parts.clock else _NONE,
            ),
            Metric.CLOCK_OFFSET_S: ("clock", self._clock),
            Metric.LINK_SHORTFALL_MBIT: ("link_mbit", self._link),
            Metric.MISSING_MOUNTS: ("mounts", lambda: _count(sorted(set(wanted.mounts) - set(parts.mounts or ())))),
            Metric.KERNEL_FAULTS: (
                "kernel",
                lambda: (parts.kernel.faults, parts.kernel.last) if parts.kernel else _NONE,
            ),
            Metric.RPC_HEALTHY: ("ready", self._healthy),
            Metric.SLOT_LAG: ("ready", lambda: self._of_ready("lag")),
            Metric.SLOT: ("ready", lambda: self._of_ready("slot")),
            Metric.RPC_P50_MS: ("rpc_ms", lambda: self._latency("p50")),
            Metric.RPC_P99_MS: ("rpc_ms", lambda: self._latency("p99")),
            Metric.GEYSER_SLOT: ("geyser", lambda: (parts.geyser.slot, parts.geyser.said) if parts.geyser else _NONE),
            Metric.POSTGRES_WRITES: ("postgres_rows", lambda: (parts.postgres_rows, "")),
            Metric.METRICS_SENT: ("telemetry", self._sent),
            Metric.PACKET_DROPS: ("drops", lambda: (parts.drops, "")),
            Metric.CPU_MHZ: ("cpu_mhz", lambda: (parts.cpu_mhz, "")),
        }

    def value(self, metric: Metric) -> Value:
        """Return value and detail."""
        if metric is Metric.UNPROVEN_DISKS:
            return self._wanted.unproven_disks, self._wanted.unproven_why
        part, read = self._readers[metric]
        if getattr(self._parts, part) is None:
            return None, self._errors.get(part, f"the host told nothing of {part}")[:200]
        return read()

    def _clock(self) -> Value:
        clock = self._parts.clock
        if clock is None:
            return _NONE
        if self._apart_s > _APART_S and clock.synchronised:
            # Which of the two is wrong cannot be told from here, and a wrong clock of ours must not fail hosts.
            return (
                None,
                f"its clock and this machine's are {self._apart_s:.1f} s apart, and a time source vouches for its own",
            )
        return max(clock.error_s, self._apart_s), ""

    def _version(self) -> Value:
        status = self._parts.status
        if status is None:
            return _NONE
        is_it = status.image == self._wanted.image and status.state == "persistent"
        return float(is_it), "" if is_it else f"runs {status.image[:16]}… with state {status.state}"

    def _layers(self) -> Value:
        found, wanted = self._parts.layers or (), self._wanted.layers
        # One that is missing is as wrong as one too many or in another place.
        wrong = sum(a != b for a, b in zip(found, wanted, strict=False)) + abs(len(found) - len(wanted))
        return wrong, "" if not wrong else f"{len(found)} layers, {len(wanted)} are the image's"

    def _link(self) -> Value:
        found = self._parts.link_mbit or 0
        return max(
            0, self._wanted.link_mbit - max(0, found)
        ), f"{found} Mbit/s" if found > 0 else "no link tells its speed"

    def _healthy(self) -> Value:
        ready = self._parts.ready
        health = ready.health if ready else None
        return float(health == "ok"), "" if health == "ok" else (health or "JSON-RPC does not answer")

    def _of_ready(self, name: str) -> Value:
        ready = self._parts.ready
        value = getattr(ready, name)
        return value, "" if value is not None else "; ".join(ready.reasons if ready else ()) or f"{name} is not told"

    def _latency(self, name: str) -> Value:
        latency = self._parts.rpc_ms
        return (getattr(latency, name), f"of {latency.calls} calls") if latency else _NONE

    def _sent(self) -> Value:
        points = count_points(self._parts.telemetry or "")
        failed = points.get("exporter_send_failed", 0.0)
        return points.get("exporter_sent", 0.0), f"{failed:.0f} could not be sent" if failed else ""


_NONE: Value = (None, "")


def _count(names: tuple[str, ...] | list[str]) -> Value:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return len(names), ", ".join(names[:_SHOWN]) + more
