"""When systemd gives the validator up: the unit's own lines under a real manager. Root; the manager has a /run of its own."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.user_manager import SYSTEMD, Manager
from tests.unit.roles.agave.conftest import PROJECT, ROLE, install_start

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd's manager"),
]

TEMPLATE = ROLE / "templates/usr/lib/systemd/system/agave-validator.service.j2"
DROP_IN = PROJECT / "ansible/roles/geyser/files/usr/lib/systemd/system/agave-validator.service.d/20-geyser.conf"
UNIT = "agave-validator.service"
# What a user's manager understands, and what these tests are about.
KEPT = ("StartLimitIntervalSec", "StartLimitBurst", "Type", "Restart", "RestartSec", "RestartPreventExitStatus")
# Of the lines after a stop, the one that is about the count of starts; a user's manager is asked by another word.
FORGET = next(
    line for line in TEMPLATE.read_text().splitlines() if line.startswith("ExecStopPost=") and "reset-failed" in line
)
# So many seconds of a host are one here.
SCALE = 600


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def seconds(text: str) -> float:
    """Return a time of a unit in seconds."""
    number, unit = re.fullmatch(r"(\d+)(h|min|s|)", text).groups()
    return int(number) * {"h": 3600, "min": 60, "s": 1, "": 1}[unit]


def kept_lines() -> dict[str, str]:
    """Return the lines of the unit that say when it is started again."""
    pairs = (line.split("=", 1) for line in TEMPLATE.read_text().splitlines() if line.partition("=")[0] in KEPT)
    found = dict(pairs)
    assert set(found) == set(KEPT)
    return found


def write_unit(manager: Manager, command: str, **changes: str) -> None:
    """Write the unit with another command, its times scaled."""
    lines = {**kept_lines(), **changes}
    for name in ("StartLimitIntervalSec", "RestartSec"):
        lines[name] = f"{seconds(lines[name]) / SCALE:.3f}s"
    unit = [f"{name}={lines[name]}" for name in lines if name.startswith("StartLimit")]
    service = [f"{name}={lines[name]}" for name in lines if not name.startswith("StartLimit")]
    text = ["[Unit]", *unit, "[Service]", *service, f"ExecStart={command}", ""]
    (manager.units / UNIT).write_text("\n".join(text))
    assert manager.ctl("daemon-reload").returncode == 0


def write_patient_unit(manager: Manager, command: str, *more: str) -> None:
    """Write the unit with its limit in real time, so that starts by hand within a test are within the window."""
    limits = {name: line for name, line in kept_lines().items() if name.startswith("StartLimit")}
    unit = ["[Unit]", *[f"{name}={value}" for name, value in limits.items()]]
    (manager.units / UNIT).write_text("\n".join([*unit, "[Service]", f"ExecStart={command}", *more, ""]))
    assert manager.ctl("daemon-reload").returncode == 0


def count(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def start_command(folder: Path, before: str) -> str:
    """Return the command of a start by start.py; `before` is what the program in front does."""
    program = folder / "before"
    program.write_text(f"#!/bin/sh\necho >>{folder}/asked\n{before}\n")
    program.chmod(0o755)
    words = install_start(folder, {"xdp": True})
    validator = folder / "validator"
    validator.write_text(f'#!/bin/sh\necho "$NOTIFY_SOCKET" >>{folder}/started\nexec sleep 60\n')
    name = next(line for line in DROP_IN.read_text().splitlines() if line.startswith("Environment=QTRADE_"))
    variable = name.removeprefix("Environment=").partition("=")[0]
    flags = ["--ledger", str(folder / "ledger"), "--snapshots", str(folder)]
    return " ".join(["/usr/bin/env", f"{variable}={program}", "/usr/bin/python3", *words, "--", *flags])


def test_a_plugin_config_that_is_refused_is_told_at_once_and_not_tried_again(manager: Manager, tmp_path: Path) -> None:
    write_unit(manager, start_command(tmp_path, "exit 78"))
    assert manager.ctl("start", UNIT).returncode != 0
    time.sleep(1)  # twenty times RestartSec=
    assert manager.show(UNIT) == {"ActiveState": "failed", "Result": "exit-code", "NRestarts": "0"}
    assert (count(tmp_path / "asked"), count(tmp_path / "started")) == (1, 0)


def test_before_the_main_program_the_same_code_is_tried_again(manager: Manager, tmp_path: Path) -> None:
    """Why start.py runs it: the exit code of an ExecStartPre= does not count."""
    write_unit(manager, f"/bin/true\nExecStartPre=/bin/sh -c 'echo >>{tmp_path}/asked; exit 78'")
    manager.ctl("start", UNIT)
    manager.wait_until(lambda: count(tmp_path / "asked") == int(kept_lines()["StartLimitBurst"]))


def test_a_start_that_goes_well_is_told_when_the_validator_runs(manager: Manager, tmp_path: Path) -> None:
    write_unit(manager, start_command(tmp_path, "sleep 1"))
    begun = time.monotonic()
    assert manager.ctl("start", UNIT).returncode == 0
    assert time.monotonic() - begun >= 1
    assert manager.show(UNIT)["ActiveState"] == "active"
    manager.wait_until((tmp_path / "started").exists)
    assert (tmp_path / "started").read_text() == "\n", "the validator shall not hold systemd's socket"


@pytest.mark.parametrize(("window", "is_given_up"), [("", True), ("300", False)], ids=["unit", "five-minutes"])
def test_crashes_many_minutes_after_each_start_come_to_an_end(
    window: str, *, is_given_up: bool, manager: Manager, tmp_path: Path
) -> None:
    """Each after 15 minutes: a window of five never sees more than one of them."""
    changes = {"Type": "simple", **({"StartLimitIntervalSec": window} if window else {})}
    crash = f"/bin/sh -c 'echo >>{tmp_path}/started; sleep {15 * 60 / SCALE}; kill -SEGV $$$$'"
    write_unit(manager, crash, **changes)
    manager.ctl("start", UNIT)
    burst = int(kept_lines()["StartLimitBurst"])
    if is_given_up:
        manager.wait_until(lambda: manager.show(UNIT)["ActiveState"] == "failed")
        time.sleep(2)
        assert count(tmp_path / "started") == burst
    else:
        manager.wait_until(lambda: count(tmp_path / "started") > burst)


def test_a_validator_that_was_given_up_starts_once_its_count_is_reset(manager: Manager, tmp_path: Path) -> None:
    """What sudo grants the operator: `systemctl reset-failed` of this unit."""
    broken = tmp_path / "broken"
    broken.touch()
    write_patient_unit(manager, f"/bin/sh -c 'echo >>{tmp_path}/started; test ! -e {broken} && exec sleep 60'")
    burst = int(kept_lines()["StartLimitBurst"])
    for _ in range(burst):
        manager.ctl("start", UNIT)
        manager.wait_until(lambda: manager.show(UNIT)["ActiveState"] == "failed")
    # The cause is mended, and the start is refused all the same.
    broken.unlink()
    assert manager.ctl("start", UNIT).returncode != 0
    assert count(tmp_path / "started") == burst
    assert manager.ctl("reset-failed", UNIT).returncode == 0
    assert manager.ctl("start", UNIT).returncode == 0
    assert manager.show(UNIT)["ActiveState"] == "active"
    assert count(tmp_path / "started") == burst + 1


@pytest.mark.parametrize("forgets", [True, False], ids=["unit", "without-the-line"])
def test_a_restart_by_hand_never_stops_a_validator_and_is_then_refused(
    *, forgets: bool, manager: Manager, tmp_path: Path
) -> None:
    line = FORGET.replace("systemctl ", "systemctl --user ")
    stop = "ExecStop=/bin/sh -c 'kill -TERM $MAINPID'"
    write_patient_unit(manager, "/usr/bin/sleep 60", stop, *([line] if forgets else []))
    assert manager.ctl("start", UNIT).returncode == 0
    burst = int(kept_lines()["StartLimitBurst"])
    codes = [manager.ctl("restart", UNIT).returncode for _ in range(burst)]
    state = manager.show(UNIT)
    if forgets:
        assert codes == [0] * burst
        assert state["ActiveState"] == "active"
    else:
        assert codes == [0] * (burst - 1) + [1]
        assert (state["ActiveState"], state["Result"]) == ("failed", "start-limit-hit")


def test_a_crash_counts_as_before(manager: Manager, tmp_path: Path) -> None:
    """Only a stop that went well ends the count."""
    line = FORGET.replace("systemctl ", "systemctl --user ")
    crash = f"/bin/sh -c 'echo >>{tmp_path}/started; kill -SEGV $$$$'"
    write_patient_unit(manager, crash, line, "Restart=on-failure", "RestartSec=100ms")
    manager.ctl("start", UNIT)
    burst = int(kept_lines()["StartLimitBurst"])
    manager.wait_until(lambda: manager.show(UNIT)["ActiveState"] == "failed")
    time.sleep(1)
    assert (manager.show(UNIT)["ActiveState"], count(tmp_path / "started")) == ("failed", burst)
