"""A validator that takes `exit` and never ends: a restart and a push end it in time, and the next start is good."""

import json
import time

import pytest

from tests.rigs import LabRig, changed_manifest, qtrade, read_manifest

pytestmark = pytest.mark.torture

# The stand-in takes `exit` and never ends where its config names this entrypoint.
HANGING = {
    "agave_entrypoints": ["exit-hangs.invalid:8001"],
    "agave_known_validators": ["7Np41oeYqPefeNQEHSv1UDhYrehxin3NStELsSKCT4K2"],
    "agave_expected_genesis_hash": "1" * 44,
}


def read_last_stop(rig: LabRig) -> dict[str, object]:
    return json.loads(rig.sh("sudo -n -u sol /usr/bin/cat /var/lib/agave/last-stop.json"))


def test_an_exit_that_hangs_is_ended_and_the_next_start_is_good(bios: LabRig) -> None:
    unit = "agave-validator.service"
    before = read_manifest(bios)["config"]
    with changed_manifest(bios, config={**before, **HANGING}):
        assert unit in json.loads(qtrade("push", "--host", bios.name, "--yes", "--json").stdout)["units"]
        assert read_last_stop(bios)["graceful"] is True, "the validator from before the push hangs already"
        first = bios.sh(f"systemctl show -P MainPID {unit}")
        begun = time.monotonic()
        bios.operator.run(f"sudo -n systemctl restart {unit}", timeout_s=240)
        assert time.monotonic() - begun > 60, "the exit did not hang"
    stop = read_last_stop(bios)
    assert (stop["graceful"], stop["how"], stop["status"]) == (False, "killed", "TERM")
    assert set(bios.sh(f"systemctl show -P ActiveState -P Result {unit}").split()) == {"active", "success"}
    assert bios.sh(f"systemctl show -P MainPID {unit}") != first
    assert json.loads(bios.sh("qtrade-agave-ready --wait 90 --interval 2"))["lag"] <= 0
    # This push's own stop hangs too, and ends in the time that a push has for a unit.
    qtrade("push", "--host", bios.name, "--yes")
    assert read_last_stop(bios)["graceful"] is False
    assert json.loads(bios.sh("qtrade-agave-ready --wait 90 --interval 2"))["ready"] is True
    assert bios.sh("systemctl is-system-running") == "running"
    assert bios.sh(f"sudo -n systemctl reset-failed {unit}") == ""
