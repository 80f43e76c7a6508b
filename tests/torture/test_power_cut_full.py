"""The lab image: power and controller die together in a state of a flash; the same command ends it, and a version is healthy."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from flash.drivers.redfish import RedfishDriver
from flash.inventory import load_host
from flash.lab import host as lab
from flash.states import State
from qtrade.settings import Settings
from tests.e2e.images import extra_layer, publish_variant
from tests.rigs import QTRADE, LabRig, qtrade

pytestmark = pytest.mark.torture

# How long after a state's begin the cut may come; VERIFIED lasts as long as one answer of the host.
_WITHIN_S = {
    State.WRITING: 4.0,
    State.VERIFIED: 0.3,
    State.ARMED: 4.0,
    State.REBOOTING: 4.0,
    State.CONFIGURED: 4.0,
    State.COMMITTED: 4.0,
}


@pytest.mark.parametrize("state", _WITHIN_S)
def test_power_and_controller_die_together(
    state: State, bios: LabRig, settings: Settings, image_010: str, tmp_path: Path, seed: int
) -> None:
    version = f"0.6.{[*_WITHIN_S].index(state)}"
    made = publish_variant(
        settings, version, top=extra_layer(settings, tmp_path, {f"usr/share/{version}": "x" * 3_000_000})
    )
    running = bios.link.status()["image"]
    ledger = bios.ledger_sha256()
    delay = random.Random(f"{seed} {state}").uniform(0, _WITHIN_S[state])
    _kill_in(bios, version, state, delay, tmp_path)
    with RedfishDriver(load_host(bios.settings, bios.name).driver) as driver:
        driver.power_on()
    _wait_for_answer(bios)
    done = qtrade("flash", "--host", bios.name, "--version", version, "--yes", check=False)
    status = bios.link.status()
    if done.returncode == 0:
        assert status["default"] == status["image"] == made.id
    else:
        assert (done.returncode, "ROLLED_BACK" in done.stderr) == (9, True), done.stderr
        assert status["default"] == status["image"] == running
    assert bios.sh("systemctl is-system-running") == "running"
    assert status["upper"] == []
    assert bios.ledger_sha256() == ledger


def _kill_in(rig: LabRig, version: str, state: State, delay: float, folder: Path) -> None:
    """Cut the power `delay` seconds after `state` began, and kill the controller in the same moment."""
    argv = [QTRADE, "flash", "--host", rig.name, "--version", version, "--yes"]
    log = folder / "flash.log"
    with log.open("wb") as sink:
        controller = subprocess.Popen(argv, stderr=sink, stdout=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 600
    while f"] {state}" not in log.read_text():
        assert controller.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(delay)
    controller.send_signal(signal.SIGKILL)
    assert lab.cut_power(rig.settings, rig.name)
    controller.wait()
    last = [line for line in log.read_text().splitlines() if "] " in line][-1]
    assert last.endswith(state), f"the cut fell after {state}: {last}"


def _wait_for_answer(rig: LabRig) -> None:
    deadline = time.monotonic() + 300
    while rig.sh("systemctl is-system-running", check=False) not in ("running", "degraded"):
        assert time.monotonic() < deadline, "the host did not come back"
        time.sleep(3)
