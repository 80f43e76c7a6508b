"""Rollouts for Prometheus: hosts by state, the phase, the wave, and since when nothing changed."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flash.rollout.progress import HostState, Phase
from flash.rollout.status import RolloutStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Look = Callable[[], Mapping[str, RolloutStatus | None]]


class _Rollouts(Collector):
    def __init__(self, look: Look) -> None:
        self._look = look

    def collect(self) -> Iterable[GaugeMetricFamily]:
        labels = ("environment", "version")
        hosts = GaugeMetricFamily(
            "qtrade_rollout_hosts", "Hosts of the last rollout by state.", labels=(*labels, "state")
        )
        phase = GaugeMetricFamily("qtrade_rollout_phase", "1 for the phase that it is in.", labels=(*labels, "phase"))
        wave = GaugeMetricFamily("qtrade_rollout_wave", "The wave that it is in, from 1.", labels=labels)
        waves = GaugeMetricFamily("qtrade_rollout_waves", "How many waves it has.", labels=labels)
        moved = GaugeMetricFamily(
            "qtrade_rollout_last_change_timestamp_seconds", "When something changed last.", labels=labels
        )
        led = GaugeMetricFamily("qtrade_rollout_led", "1 while a controller holds it.", labels=labels)
        for environment, status in self._look().items():
            if status is None:
                continue
            named = (environment, status.version)
            for state in HostState:
                hosts.add_metric((*named, state), status.counts.get(state, 0))
            for one in Phase:
                phase.add_metric((*named, one), float(status.phase == one))
            wave.add_metric(named, status.wave)
            waves.add_metric(named, len(status.waves))
            moved.add_metric(named, status.moved)
            led.add_metric(named, float(bool(status.holder)))
        yield from (hosts, phase, wave, waves, moved, led)


def render_metrics(look: Look) -> bytes:
    """Return the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Rollouts(look))
    return generate_latest(registry)
