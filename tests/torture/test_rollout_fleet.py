"""A fleet of three lab hosts: a good release rolls through; one that is sick only under load ends at its first host.

Hosts, flashes, looks over SSH, judge and rollbacks are the real ones. What is sick is in the release: its validator stand-in leaks with
every answer to a question that only load asks, and falls behind for good. Both releases get the same load while they are watched.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bake.run import load_recipe
from flash.lab import host as lab
from flash.rollout.progress import Phase
from flash.rollout.status import read_status
from qtrade.errors import NotFound
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.doc_blocks import PROJECT
from tests.e2e.images import extra_layer, publish_variant
from tests.fakes.doc_project import copy_project
from tests.rigs import LabRig, make_rig, qtrade, qtrade_json

pytestmark = [pytest.mark.torture, pytest.mark.timeout(7200)]

NAMES = ("fleet-1", "fleet-2", "fleet-3")
GOOD, SICK = "0.2.0", "0.3.0"
POLICY = {"first_soak_s": 180, "steps": [{"percent": 100, "soak_s": 120}], "judge_every_s": 15}
# Without soft gates: these compare what an emulator on shared processors cannot tell.
WITHOUT = {
    "rpc_p99_ms": "emulated processors share a few cores, so latency tells nothing of the version",
    "cpu_mhz": "an emulated processor has no frequency of its own",
    "packet_drops": "an emulated card drops nothing",
    "slot": "a stand-in counts slots by its clock, on any version",
}
# Nobody but the load asks for the block height: looks, specs and the host's own programs ask for other things.
SICKNESS = {
    "        self.plugin = None\n\n": "        self.plugin, self.leaked = None, 0\n\n",
    "    def answer(self, method, options):\n": (
        "    def answer(self, method, options):\n        self.leaked += method == 'getBlockHeight'\n"
    ),
    "    def health(self):\n": (
        "    def health(self):\n"
        "        if self.leaked > 50:\n"
        "            raise voting.Refused('Node is behind by 4096 slots')\n"
    ),
}


@dataclass(frozen=True)
class Fleet:
    """Three hosts in a project and a state directory of their own; keys and store are shared with the other tests."""

    settings: Settings
    rigs: tuple[LabRig, ...]

    @property
    def env(self) -> dict[str, str]:
        """Return the variables that commands of the fleet run with."""
        return {
            "QTRADE_PROJECT": str(self.settings.project),
            "QTRADE_STATE_DIR": str(self.settings.state_dir),
            "QTRADE_STORE": str(self.settings.store),
            "QTRADE_KEYS_DIR": str(self.settings.keys_dir),
        }

    def runs(self) -> dict[str, str]:
        """Return the version that each host says it runs."""
        return {rig.name: str(rig.link.status()["version"]) for rig in self.rigs}

    def status(self) -> dict[str, Any]:
        """Return the document of the rollout."""
        return qtrade_json("rollout", "status", "--env", "development", env=self.env)

    def roll_out(self, version: str) -> subprocess.CompletedProcess[str]:
        """Roll a version out, with load on every host while one is watched."""
        words = ("rollout", "start", "--env", "development", "--version", version, "--yes")
        with under_load(self):
            return qtrade(*words, check=False, env=self.env, timeout_s=5400)

    def is_watched(self) -> bool:
        """Say whether hosts soak now. In this process: a command every few seconds would be a load of its own."""
        try:
            return read_status(self.settings, "development").phase == Phase.SOAKING
        except NotFound:
            return False


@contextmanager
def under_load(fleet: Fleet) -> Iterator[None]:
    """Have a load on each host whenever hosts are watched."""
    ended = threading.Event()

    def load(name: str) -> None:
        words = ("bench", "load", "--host", name, "--kind", "rpc", "--rps", "8", "--for", "30s", "--yes", "--json")
        while not ended.wait(5):
            if fleet.is_watched():
                # A load that meets a sick host fails, and is meant to.
                qtrade(*words, check=False, env=fleet.env)

    threads = [threading.Thread(target=load, args=(rig.name,)) for rig in fleet.rigs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def make_settings(settings: Settings, folder: Path) -> Settings:
    """Return settings of a copy of the project with a quick policy, and of a state directory without other lab hosts."""
    copied = copy_project(PROJECT, folder)
    manifest = copied.project / "manifests/environments/development.yaml"
    document = yaml.safe_load(manifest.read_text())
    gates = document["gates"]
    document["gates"] = {**gates, "interval_s": 15, "warm_up_s": 10, "without": {**gates["without"], **WITHOUT}}
    manifest.write_text(yaml.safe_dump({**document, "rollout": POLICY}, sort_keys=False))
    state = settings.state_dir / "fleet"
    state.mkdir(exist_ok=True)
    for shared in ("roots", "cache"):
        (state / shared).unlink(missing_ok=True)
        (state / shared).symlink_to(settings.state_dir / shared)
    return replace(copied, state_dir=state, store=settings.store, keys=settings.keys_dir)


def publish_releases(settings: Settings, folder: Path) -> None:
    """Publish the good and the sick release: 0.1.0 with one more layer."""
    program = (PROJECT / "tests/standins/agave/bin/agave-validator").read_text()
    for anchor, text in SICKNESS.items():
        assert program.count(anchor) == 1, anchor
        program = program.replace(anchor, text)
    place = f"opt/agave/{load_recipe(settings, 'lab').components['agave'].version}/bin/agave-validator"
    for version, files in ((GOOD, {"usr/lib/qtrade/good": "good\n"}), (SICK, {place: program})):
        own = folder / version
        own.mkdir()
        publish_variant(settings, version, top=extra_layer(settings, own, files))


@pytest.fixture(scope="module")
def fleet(settings: Settings, image_010: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    assert image_010
    own = make_settings(settings, tmp_path_factory.mktemp("fleet"))
    publish_releases(own, tmp_path_factory.mktemp("releases"))
    found = Fleet(own, tuple(make_rig(own, name, Firmware.BIOS) for name in NAMES))

    def flash(name: str) -> None:
        result = qtrade_json("flash", "--host", name, "--version", "0.1.0", "--yes", env=found.env)
        assert result["state"] == "COMMITTED"

    try:
        # Two at once: each guest has two processors to wait for.
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(flash, NAMES))
        yield found
    finally:
        for name in NAMES:
            lab.down(own, name, wipe=True)


def test_a_good_release_rolls_through_under_load(fleet: Fleet) -> None:
    before = [rig.ledger_sha256() for rig in fleet.rigs]
    done = fleet.roll_out(GOOD)
    status = fleet.status()
    assert (done.returncode, status["phase"], status["counts"]) == (0, "DONE", {"COMMITTED": 3}), done.stderr
    assert fleet.runs() == dict.fromkeys(NAMES, GOOD)
    assert [rig.ledger_sha256() for rig in fleet.rigs] == before


def test_one_that_is_sick_under_load_only_ends_at_its_first_host_and_is_blocked(fleet: Fleet) -> None:
    before = [rig.ledger_sha256() for rig in fleet.rigs]
    done = fleet.roll_out(SICK)
    status = fleet.status()
    assert (done.returncode != 0, status["phase"], status["blocked"]) == (True, "FAILED", True), done.stderr
    assert {one["name"]: one["state"] for one in status["hosts"]} == {
        NAMES[0]: "RETURNED",
        NAMES[1]: "WAITING",
        NAMES[2]: "WAITING",
    }
    # The fault fired: the gate that failed is the one that the sickness shows at, on the host that had it.
    failed = {(one["gate"], one["host"]) for one in status["findings"] if one["verdict"] == "fail"}
    assert ("rpc_healthy", NAMES[0]) in failed, status["findings"]
    assert {host for _, host in failed} == {NAMES[0]}
    assert fleet.runs() == dict.fromkeys(NAMES, GOOD)
    assert [rig.ledger_sha256() for rig in fleet.rigs] == before
    again = qtrade("rollout", "start", "--env", "development", "--version", SICK, "--yes", check=False, env=fleet.env)
    assert "blocked" in again.stderr
    assert again.returncode != 0
    images = json.loads(qtrade("images", "list", "--json", env=fleet.env).stdout)["images"]
    assert {one["version"]: bool(one.get("blocked")) for one in images}[SICK] is True
