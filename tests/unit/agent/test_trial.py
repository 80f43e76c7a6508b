"""Changes of config in a folder of the test: settled, on trial, taken back, and cut off by a power failure at every write."""

import base64
import contextlib
import errno
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flash.agent import bundle, config, durable, reboots, trial
from flash.agent.errors import AgentError
from flash.agent.names import Names
from flash.agent.units import parse_inputs

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).resolve().parents[3] / "bake/initramfs/os/scripts/qtrade"
IMAGE = "1" * 64
FIRST, SECOND, THIRD = "a" * 64, "b" * 64, "c" * 64
INPUTS = parse_inputs(
    [
        json.dumps(
            {
                "files": [
                    {"path": "net", "access": True, "units": [{"name": "net.service", "action": "reload"}]},
                    {"path": "keys/{key}", "access": True, "units": []},
                    {"path": "app", "units": [{"name": "app.service", "action": "reload"}]},
                    {"path": "fstab", "reboot": True, "units": []},
                ],
                "secrets": [
                    {"name": "token", "units": [{"name": "token.service", "action": "reload"}]},
                    {"name": "certificate", "units": [{"name": "token.service", "action": "reload"}]},
                ],
            }
        )
    ]
)


@dataclass
class Timer:
    """Remembers for how long it was armed."""

    armed: list[float] = field(default_factory=list)

    def arm(self, within_s):
        self.armed.append(within_s)

    def disarm(self):
        self.armed.clear()


@dataclass
class Rig:
    """A host's config with generation 1 settled; `done` is what units were told, `now` the seconds since its boot."""

    ground: trial.Ground
    envelope: object
    done: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    now: float = 100.0

    def act(self, action):
        self.done.append(action.name)
        if action.name in self.failing:
            raise AgentError("unit-failed", f"{action.name} failed")

    def take(self, generation, nonce=FIRST, within_s=60, put=None, **files):
        config.write_generation(self.ground.config, self.make(generation, **files), Names({}, {}))
        return trial.take(self.ground, generation, nonce, confirm_within_s=within_s, put=put)

    def make(self, generation, **files):
        me, mine = str(os.getuid()), str(os.getgid())
        rows = [
            {
                "path": path,
                "mode": "0640",
                "owner": me,
                "group": mine,
                "content": base64.b64encode(text.encode()).decode(),
            }
            for path, text in {"net": "1", "app": "1", "fstab": "1", **files}.items()
        ]
        fields = {"schema_version": 1, "host": "lab-1", "generation": generation, "image": IMAGE, "files": rows}
        key, envelope = self.envelope
        return bundle.open_bundle(envelope(bundle.PAYLOAD_TYPE, fields), {key.key_id: key.raw}, "lab-1")

    @property
    def current(self):
        return config.current_generation(self.ground.config)

    @property
    def settled(self):
        return config.assigned_generations(self.ground.config)[IMAGE]

    def boot(self):
        """Return the generation that is current after a reboot, chosen by the initramfs's own script."""
        commands = f"""
            . {SCRIPT}
            QTRADE={self.ground.config.parents[1]} image={IMAGE} config=none
            qtrade_note() {{ :; }}
            qtrade_alarm() {{ :; }}
            qtrade_choose_config
            qtrade_choose_secrets
        """
        subprocess.run(["sh", "-uc", commands], check=True)
        self.ground = self.ground._replace(boot_id="boot-2")
        return self.current


@pytest.fixture
def rig(tmp_path, key):
    folder, notes = tmp_path / "state/config", tmp_path / "state/agent"
    for path in (folder, notes, folder / "by-image"):
        path.mkdir(parents=True)
    ground = trial.Ground(
        folder, tmp_path / "state/credstore", notes, tmp_path / "booted", IMAGE, "boot-1", INPUTS, Timer()
    )
    made = Rig(ground, (key, key.envelope))
    made.ground = ground._replace(act=made.act, now=lambda: made.now)
    made.take("1")
    made.done.clear()
    ground.booted.unlink()  # it boots
    return made


def test_what_cannot_cut_the_host_off_is_settled_at_once(rig):
    taken = rig.take("2", app="2")
    assert (taken.units, taken.waits_s) == (["app.service"], 0)
    assert (rig.current, rig.settled, rig.ground.timer.armed) == ("2", "2", [])
    assert trial.read_trial(rig.ground) is None


@pytest.mark.parametrize("files", [{"net": "2"}, {"keys/deploy": "key"}])
def test_what_can_waits_for_its_confirmation(rig, files):
    taken = rig.take("2", **files)
    assert taken.waits_s == 60
    assert (rig.current, rig.settled, rig.ground.timer.armed[-1]) == ("2", "1", 60)
    assert trial.confirm(rig.ground, FIRST, connected_at=100.5) == "2"
    assert (rig.settled, rig.ground.timer.armed) == ("2", [])
    assert rig.boot() == "2"


def test_no_window_no_trial(rig):
    """As older controllers ask."""
    assert rig.take("2", within_s=0, net="2").waits_s == 0
    assert rig.settled == "2"


def test_time_is_up(rig):
    rig.take("2", net="2", app="2")
    rig.now += 59
    assert trial.revert(rig.ground) == ""
    assert rig.ground.timer.armed[-1] == pytest.approx(1)
    rig.now += 1
    rig.done.clear()
    assert trial.revert(rig.ground) == "2"
    assert (rig.current, rig.settled, rig.done, rig.ground.timer.armed) == (
        "1",
        "1",
        ["app.service", "net.service"],
        [],
    )
    said = trial.read_reverted(rig.ground)
    assert (said["generation"], said["before"], said["why"]) == ("2", "1", "nobody confirmed it in time")
    assert trial.revert(rig.ground) == ""
    with pytest.raises(AgentError, match="nothing waits for this confirmation; generation 1 is current") as caught:
        trial.confirm(rig.ground, FIRST, connected_at=200)
    assert caught.value.code == "trial-over"


@pytest.mark.parametrize(
    ("nonce", "connected_at", "code"),
    [(SECOND, 200, "trial-over"), (FIRST, 99.0, "connection-old"), (FIRST, 100.0, "connection-old")],
)
def test_only_its_own_nonce_over_a_younger_connection_confirms(rig, nonce, connected_at, code):
    rig.take("2", net="2")
    with pytest.raises(AgentError) as caught:
        trial.confirm(rig.ground, nonce, connected_at=connected_at)
    assert caught.value.code == code
    assert rig.settled == "1"


def test_an_agent_that_dies_in_the_middle_leaves_it_to_the_timer(rig):
    def die(_):
        raise SystemExit

    rig.ground = rig.ground._replace(act=die)
    with pytest.raises(SystemExit):
        rig.take("2", app="2")
    assert (rig.current, rig.settled, rig.ground.timer.armed) == ("2", "1", [120])
    with pytest.raises(AgentError, match="died in the middle of the change to generation 2") as caught:
        trial.confirm(rig.ground, FIRST, connected_at=200)
    assert caught.value.remedy == "the host goes back to generation 1 by itself within 120 s; push again then"
    rig.ground = rig.ground._replace(act=rig.act)
    rig.now += 120
    assert trial.revert(rig.ground) == "2"
    assert (rig.current, rig.done) == ("1", ["app.service"])
    assert trial.read_reverted(rig.ground)["why"] == "the agent died in the middle of the change"


def test_a_push_over_a_trial_goes_back_to_what_was_settled(rig):
    rig.take("2", net="2")
    rig.take("3", SECOND, net="3")
    with pytest.raises(AgentError, match="nothing waits"):
        trial.confirm(rig.ground, FIRST, connected_at=200)
    rig.now += 60
    assert trial.revert(rig.ground) == "3"
    assert rig.current == "1"


def test_a_push_over_a_trial_that_mends_it_needs_no_confirmation(rig):
    rig.take("2", net="2")
    rig.done.clear()
    taken = rig.take("3", SECOND, app="3")
    assert (taken.waits_s, rig.settled, rig.ground.timer.armed) == (0, "3", [])
    assert rig.done == ["app.service", "net.service"]


def test_a_push_over_a_trial_that_a_unit_refuses_goes_back_too(rig):
    rig.take("2", net="2")
    rig.failing.add("app.service")
    with pytest.raises(AgentError, match=r"generation 3 was not taken: app\.service failed") as caught:
        rig.take("3", SECOND, net="2", app="3")
    assert caught.value.remedy == "generation 1 is current again; correct the values and push"
    assert (rig.current, rig.settled) == ("1", "1")


def test_a_reboot_ends_a_trial(rig):
    rig.take("2", net="2")
    assert rig.boot() == "1"
    assert trial.read_trial(rig.ground) is None
    with pytest.raises(AgentError, match="nothing waits"):
        trial.confirm(rig.ground, FIRST, connected_at=200)


def test_what_was_never_settled_is_nothing_to_fall_back_on(rig):
    """The settled generation is damaged on the disk; the newest whole one of the image would be the refused one."""
    rig.take("2", app="2")
    rig.failing.add("app.service")
    with pytest.raises(AgentError, match="was not taken"):
        rig.take("3", app="3")
    (rig.ground.config / "2/app").write_text("damaged")
    assert rig.boot() == "1"


def test_the_first_config_of_a_host_has_nothing_to_go_back_to(rig, tmp_path):
    folder = tmp_path / "other/config"
    folder.mkdir(parents=True)
    rig.ground = rig.ground._replace(config=folder)
    assert rig.take("1").waits_s == 0
    assert rig.settled == "1"


def test_back_to_an_earlier_generation(rig):
    rig.take("2", app="2")
    config.require_whole(rig.ground.config, "1", IMAGE)
    rig.done.clear()
    assert trial.take(rig.ground, "1", SECOND).units == ["app.service"]
    assert (rig.current, rig.settled, rig.boot()) == ("1", "1", "1")
    assert config.settled_generations(rig.ground.config) == {"1": IMAGE, "2": IMAGE}


def test_a_way_back_that_can_cut_the_host_off_is_a_trial_as_well(rig):
    rig.take("2", net="2")
    trial.confirm(rig.ground, FIRST, connected_at=200)
    assert trial.take(rig.ground, "1", SECOND, confirm_within_s=60).waits_s == 60
    assert (rig.current, rig.settled) == ("1", "2")
    assert rig.boot() == "2"


@pytest.mark.parametrize(
    ("generation", "image", "code"),
    [("7", IMAGE, "generation-missing"), ("1", "2" * 64, "generation-foreign"), ("2", IMAGE, "generation-broken")],
)
def test_what_cannot_be_gone_back_to_is_refused(rig, generation, image, code):
    rig.take("2", app="2")
    (rig.ground.config / "2/app").write_text("x")
    with pytest.raises(AgentError) as caught:
        config.require_whole(rig.ground.config, generation, image)
    assert caught.value.code == code


def test_a_trial_is_nothing_to_go_back_to(rig):
    rig.take("2", net="2")
    with pytest.raises(AgentError, match="no generation 2 was ever settled here"):
        config.require_whole(rig.ground.config, "2", IMAGE)


def test_a_generation_that_cannot_be_removed_fails_no_push(rig, monkeypatch):
    """As the one that the host booted with, a file of which is covered by a mount."""

    def busy(paths):
        refused.extend(path.name for path in paths)
        raise OSError(errno.EBUSY, "Device or resource busy")

    refused = []
    monkeypatch.setattr(durable, "remove_all", busy)
    for number in range(2, 10):
        rig.take(str(number), app=str(number))
        assert rig.settled == str(number)
    assert "1" in refused


def test_files_that_only_a_boot_reads_wait_for_one(rig):
    ground = rig.ground
    rig.take("2", fstab="2")
    assert reboots.waiting(ground.booted, ground.config, INPUTS) == ["fstab"]
    rig.take("3", app="3", fstab="2")
    assert reboots.waiting(ground.booted, ground.config, INPUTS) == ["fstab"]
    rig.take("4", app="3")
    assert reboots.waiting(ground.booted, ground.config, INPUTS) == []


class PowerCut(BaseException):
    """Nothing runs after it, no `except` either."""


class Power:
    """Goes out before the write number `left`."""

    def __init__(self, monkeypatch, left):
        self.left = left
        for name in ("write_file", "put_file", "flush_writes", "replace_link", "remove_all", "sync_folder", "exchange"):
            self.cut(monkeypatch, durable, name)
        for name in ("rename", "unlink", "mkdir", "chmod", "touch"):
            self.cut(monkeypatch, Path, name)
        for place, name in ((shutil, "rmtree"), (os, "link")):
            self.cut(monkeypatch, place, name)

    def cut(self, monkeypatch, place, name):
        real = getattr(place, name)

        def write(*args, **options):
            if self.left == 0:
                raise PowerCut
            self.left -= 1
            return real(*args, **options)

        monkeypatch.setattr(place, name, write)


def files_of(rig):
    return {name: (rig.ground.config / "current" / name).read_text() for name in ("net", "app", "fstab")}


OLD = {"net": "1", "app": "1", "fstab": "1"}


@pytest.mark.parametrize("change", [{"app": "2", "fstab": "2"}, {"app": "2", "net": "2"}], ids=["settled", "trial"])
def test_a_power_cut_at_any_write_leaves_old_or_new(rig, monkeypatch, tmp_path, change):
    """The push, and its confirmation if it needs one, are cut before each of their writes in turn; then the host boots."""
    seen, cuts, new = [], 0, {**OLD, **change}
    base = tmp_path / "base"
    subprocess.run(["cp", "-a", rig.ground.config.parents[0], base], check=True)
    while True:
        subprocess.run(["rm", "-rf", rig.ground.config.parents[0]], check=True)
        subprocess.run(["cp", "-a", base, rig.ground.config.parents[0]], check=True)
        rig.ground = rig.ground._replace(boot_id="boot-1")
        with monkeypatch.context() as patched:
            Power(patched, cuts)
            is_cut = True
            with contextlib.suppress(PowerCut):
                if rig.take("2", **change).waits_s:
                    trial.confirm(rig.ground, FIRST, connected_at=200)
                is_cut = False
        if not is_cut:
            break
        rig.boot()
        found = files_of(rig)
        assert found in (OLD, new), f"cut before write {cuts}"
        seen.append(found == new)
        # The same push again ends well, whatever was left.
        rig.take("3", within_s=0, **change)
        assert files_of(rig) == new
        cuts += 1
    assert cuts > 15
    assert seen == sorted(seen), "once new, it stays new"
    assert {False, True} == set(seen)
