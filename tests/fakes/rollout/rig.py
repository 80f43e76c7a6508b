"""Runs fleet and controllers as processes, and kills controllers."""

import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash.lines import read_lines

_LIMIT_S = 3600.0


@dataclass
class SimRig:
    """A fleet that runs, and the rollouts on it. `events` are what the journals say, by the hosts or the rollout."""

    spec: Path
    port: int
    state: Path
    kills: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Run the controller to its end; return what it took."""
        with self.controller() as child:
            assert child.wait(_LIMIT_S) == 0
        return dict(json.loads((self.state / "took.json").read_text()))

    def run_killed(self, times: int, *, seed: int, events: int) -> dict[str, Any]:
        """Run the controller, killed `times` times at moments spread over the journal's `events`, then to its end."""
        chooser = random.Random(seed)
        moments = sorted(chooser.sample(range(3, max(events - 3, times + 4)), times))
        for moment in moments:
            with self.controller() as child:
                until = time.monotonic() + _LIMIT_S
                while self.lines() < moment and child.poll() is None and time.monotonic() < until:
                    time.sleep(0.002)
                if child.poll() is None:
                    child.send_signal(signal.SIGKILL)
                    assert child.wait(60) == -signal.SIGKILL
                    self.kills.append(f"at line {self.lines()}")
        return self.run()

    @contextmanager
    def controller(self) -> Iterator[subprocess.Popen[bytes]]:
        argv = (sys.executable, "-m", "tests.fakes.rollout.controller", self.spec, str(self.port), self.state)
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
                child.wait(60)

    def lines(self) -> int:
        """Return how many events the journals have."""
        return sum(path.read_bytes().count(b"\n") for path in self.journals())

    def journals(self) -> list[Path]:
        return sorted((self.state / "rollouts/staging").glob("*.jsonl"))

    def starts(self) -> dict[str, int]:
        """Return how often each host was started, by the journals."""
        found: dict[str, int] = {}
        for path in self.journals():
            for line in read_lines(path):
                if line["event"] == "started":
                    found[line["host"]] = found.get(line["host"], 0) + 1
        return found

    def ask(self, path: str) -> dict[str, Any]:
        """Ask the fleet itself: `/end` what each host runs, `/tally` what happened."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return dict(json.load(answer))


@contextmanager
def sim_rig(folder: Path, **spec: Any) -> Iterator[SimRig]:
    """Start the fleet of `spec`; it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    argv = (sys.executable, "-m", "tests.fakes.rollout.server", path)
    server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield SimRig(path, int(server.stdout.readline()), folder / "state")
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait(60)
        server.stdout.close()
