"""Hosts that soak, as far as their probe tells: what it would print, look after look, with a clock of the test's own."""

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from qtrade.errors import HostError
from qtrade.manifest import Host

MOUNTS = ("/", "/mnt/ledger", "/mnt/data")


class Clock:
    """Moves on by `step_s` whenever it is looked at."""

    def __init__(self, now: float, step_s: float) -> None:
        self.now, self.step_s = now, step_s
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            self.now += self.step_s
            return self.now


@dataclass
class SoakingHost:
    """One host. `over` replaces parts of its answers, None for one that cannot be read; `is_silent` gives none at all."""

    name: str
    image: str
    layers: tuple[str, ...]
    over: dict[str, Any] = field(default_factory=dict)
    is_silent: bool = False
    looks: int = 0
    asked: int = 0
    clock_s: float | None = None

    def answer(self, now: float) -> str:
        """Return what the probe would print at that moment, or by the host's own clock. Raises `HostError` where the host is silent."""
        self.asked += 1
        if self.is_silent:
            raise HostError(
                f"{self.name} cannot be reached over SSH at 192.0.2.1:22", details="ssh: connect: timed out"
            )
        self.looks += 1
        wobble = 1 + (self.looks * 7 % 10) / 50
        telemetry = f'otelcol_exporter_sent_metric_points_total{{exporter="datadog"}} {self.looks * 900}\n'
        parts: dict[str, Any] = {
            "status": {"host": self.name, "image": self.image, "state": "persistent"},
            "layers": list(self.layers), "units": [], "restarts": 0, "clock": {"error_s": 0.0003, "synchronised": True},
            "link_mbit": 10000, "drops": self.looks, "mounts": list(MOUNTS), "kernel": {"faults": 0, "last": ""},
            "cpu_mhz": 3400 * wobble, "ready": {"health": "ok", "slot": 1000 + self.looks * 40, "lag": 1, "reasons": []},
            "rpc_ms": {"p50": 2 * wobble, "p99": 20 * wobble, "calls": 100}, "geyser": {"slot": 1000 + self.looks * 40, "said": ""},
            "postgres_rows": self.looks * 500, "telemetry": telemetry,
        }  # fmt: skip
        own = now if self.clock_s is None else self.clock_s
        over = {name: value(parts[name]) if callable(value) else value for name, value in self.over.items()}
        errors = {name: f"{name} cannot be read" for name, value in over.items() if value is None}
        return json.dumps({"schema_version": 1, "began": own, "ended": own, "parts": parts | over, "errors": errors})


class Fleet:
    """Hosts by name, whose clocks are right by `now`. It notes how many were asked at the same time at the most."""

    def __init__(self, *hosts: SoakingHost) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.at_once = self.most_at_once = 0
        self.now = float
        self._lock = threading.Lock()

    def ask(self, host: Host) -> str:
        """Answer as the host's probe."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.hosts[host.name].answer(self.now())
        finally:
            with self._lock:
                self.at_once -= 1
