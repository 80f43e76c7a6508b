"""The boot test itself: the lab image passes it, others must fail it, and a killed one leaves nothing behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from qtrade.machine import pids
from qtrade.manifest import Image
from qtrade.settings import Settings
from qtrade.store import LocalStore
from qtrade.trust.keyring import load_keyring
from qtrade.trust.statements import TestRun, verify_statements
from tests.e2e.images import extra_layer, publish_variant
from tests.rigs import QTRADE, qtrade

pytestmark = pytest.mark.torture


def test_lab_image_passes_with_the_specs_of_all_roles(image_010: str) -> None:
    (result,) = json.loads(qtrade("images", "test", "0.1.0", "--firmware", "uefi", "--json").stdout)["results"]
    predicate = result["predicate"]
    assert result["image_id"] == image_010
    assert (predicate["kind"], predicate["passed"], predicate["firmware"]) == ("boot", True, "uefi")
    assert predicate["ran"] > 60
    assert result["envelope"]["payloadType"] == "application/vnd.in-toto+json"


def test_image_that_does_not_boot_fails_with_its_console(settings: Settings, image_010: str, tmp_path: Path) -> None:
    layer = extra_layer(settings, tmp_path, {"usr/sbin/init": "#!/bin/sh\nexit 1\n"})
    image = publish_variant(settings, "0.3.0", top=layer)
    done = qtrade("images", "test", "0.3.0", "--firmware", "bios", check=False)
    assert done.returncode == 9
    assert "Kernel panic" in done.stderr
    assert "the end of the console" in done.stderr
    last = last_boot_test(settings, image)
    assert (last.passed, last.ran, last.failures) == (False, 0, ("the console says 'Kernel panic'",))
    assert leftovers(settings) == []


def test_image_whose_spec_fails_is_refused(settings: Settings, image_010: str, tmp_path: Path) -> None:
    """A sysctl that only holds once the machine runs is changed; the layers' specs could not see it."""
    layer = extra_layer(settings, tmp_path, {"etc/sysctl.d/99-spoilt.conf": "vm.max_map_count = 65530\n"})
    image = publish_variant(settings, "0.3.1", top=layer)
    done = qtrade("images", "test", "0.3.1", check=False)
    assert done.returncode == 9
    assert "test_sysctl_holds_at_run_time" in done.stderr
    assert "vm.max_map_count" in done.stderr
    last = last_boot_test(settings, image)
    assert not last.passed
    assert any("test_sysctl_holds_at_run_time" in line for line in last.failures)
    assert leftovers(settings) == []


def test_killed_boot_test_leaves_nothing_running(settings: Settings, image_010: str) -> None:
    child = subprocess.Popen([QTRADE, "images", "test", "0.1.0"], stderr=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not leftovers(settings):
        assert time.monotonic() < deadline, "the machine never ran, so nothing is proven"
        time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 20
    while leftovers(settings):
        assert time.monotonic() < deadline, f"still running: {leftovers(settings)}"
        time.sleep(0.2)


def last_boot_test(settings: Settings, image: Image) -> TestRun:
    """Return what is attested of the image's last boot by BIOS."""
    said = verify_statements(image.id, LocalStore(settings.store).attestations(image.id), load_keyring(settings).trust)
    last = said.last_boot_test("bios")
    assert last is not None, "the failure was not attested"
    return last


def leftovers(settings: Settings) -> list[int]:
    """Return the machines of boot tests that run."""
    return pids.find_processes(("qemu-system-x86_64", f"{settings.state_dir / 'boot-test'}/"))
