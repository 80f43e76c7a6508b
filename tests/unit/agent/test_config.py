"""Config generations in a folder of the test."""

import base64
import json
import os
import shutil

import pytest

from flash.agent import bundle as bundle_of
from flash.agent import config, trial
from flash.agent.errors import AgentError
from flash.agent.names import Names, parse_names
from flash.agent.units import UnitAction, parse_inputs

pytestmark = pytest.mark.unit

IMAGE = "1" * 64
ME = str(os.getuid())
INPUTS = json.dumps(
    {
        "files": [
            {"path": "agave/validator.env", "units": [{"name": "agave.service", "action": "restart"}]},
            {"path": "otel/otel.yaml", "units": [{"name": "otel.service", "action": "reload"}]},
            {"path": "agave/extra.env", "units": [{"name": "agave.service", "action": "restart"}]},
        ],
        "secrets": [{"name": "api_key", "units": [{"name": "otel.service", "action": "restart"}]}],
    }
)


@pytest.fixture
def tmp_path(tmp_path):
    """The folder of the generations."""
    (tmp_path / "config").mkdir()
    return tmp_path / "config"


@pytest.fixture
def inputs():
    return parse_inputs([INPUTS])


@pytest.fixture
def names():
    return Names({}, {})


@pytest.fixture
def make_bundle(key):
    def make(generation, host="lab-1", image=IMAGE, mode="0640", **files):
        rows = [
            {
                "path": path.replace("__", "/").replace("_env", ".env").replace("_yaml", ".yaml"),
                "mode": mode,
                "owner": ME,
                "group": str(os.getgid()),
                "content": base64.b64encode(text.encode()).decode(),
            }
            for path, text in files.items()
        ]
        fields = {"schema_version": 1, "host": host, "generation": generation, "image": image, "files": rows}
        envelope = key.envelope(bundle_of.PAYLOAD_TYPE, fields)
        return bundle_of.open_bundle(envelope, {key.key_id: key.raw}, "lab-1")

    return make


def test_what_somebody_altered_is_named(tmp_path, make_bundle, names):
    config.write_generation(
        tmp_path, make_bundle("1", agave__validator_env="a", otel__otel_yaml="b", agave__extra_env="c"), names
    )
    folder = tmp_path / "1"
    assert config.altered_files(tmp_path, "1", names) == []
    (folder / "agave/validator.env").write_text("other")
    (folder / "otel/otel.yaml").chmod(0o666)
    (folder / "agave/extra.env").unlink()
    (folder / "agave/stray").write_text("")
    assert config.altered_files(tmp_path, "1", names) == [
        "agave/extra.env",
        "agave/stray",
        "agave/validator.env",
        "otel/otel.yaml",
    ]
    # Over the file of the generation that booted, the initramfs has mounted the host's own.
    (tmp_path.parent / "host/otel").mkdir(parents=True)
    (tmp_path.parent / "host/otel/otel.yaml").hardlink_to(folder / "otel/otel.yaml")
    assert "otel/otel.yaml" not in config.altered_files(tmp_path, "1", names)
    (folder / ".bundle.json").write_text("{")
    with pytest.raises(AgentError, match="no readable bundle"):
        config.altered_files(tmp_path, "1", names)


class Units:
    """Records what is done to units; those in `failing` do not take it."""

    def __init__(self, *failing):
        self.failing = failing
        self.done = []

    def __call__(self, action):
        self.done.append(f"{action.action} {action.name}")
        if action.name in self.failing:
            raise AgentError("unit-failed", f"{action.name} failed")


class NoTimer:
    def arm(self, within_s):
        pass

    def disarm(self):
        pass


def push(folder, bundle, inputs, names, act):
    """Take a bundle as the agent does; returns the units that acted."""
    bundle_of.check_declared(bundle, inputs)
    config.write_generation(folder, bundle, names)
    notes = folder.parent / "notes"
    notes.mkdir(exist_ok=True)
    ground = trial.Ground(
        folder, folder / "credstore", notes, notes / "booted", bundle.image_id, "boot-1", inputs, NoTimer(), act
    )
    return trial.take(ground, bundle.generation, "5" * 64).units


def test_generation_is_written_and_current(tmp_path, make_bundle, inputs, names):
    units = Units()
    bundle = make_bundle(1, agave__validator_env="A=1\n")
    assert push(tmp_path, bundle, inputs, names, units) == ["agave.service"]
    written = tmp_path / "current/agave/validator.env"
    assert written.read_text() == "A=1\n"
    assert written.stat().st_mode & 0o777 == 0o640
    assert json.loads((tmp_path / "current/.bundle.json").read_text()) == bundle.envelope
    assert (tmp_path / "current/.bundle.json").stat().st_mode & 0o777 == 0o600
    assert config.current_generation(tmp_path) == "1"
    assert (tmp_path / "by-image" / IMAGE / "agave/validator.env").exists()


def test_only_units_of_changed_files_act(tmp_path, make_bundle, inputs, names):
    push(tmp_path, make_bundle(1, agave__validator_env="A=1", otel__otel_yaml="x"), inputs, names, Units())
    units = Units()
    push(tmp_path, make_bundle(2, agave__validator_env="A=1", otel__otel_yaml="y"), inputs, names, units)
    assert units.done == ["reload otel.service"]
    units = Units()
    push(tmp_path, make_bundle(3, otel__otel_yaml="y"), inputs, names, units)
    assert units.done == ["restart agave.service"]
    units = Units()
    push(tmp_path, make_bundle(4, otel__otel_yaml="y"), inputs, names, units)
    assert units.done == []


def test_a_unit_acts_once(inputs):
    assert inputs.actions_of(["agave/validator.env", "agave/extra.env"]) == [UnitAction("agave.service", "restart")]


def test_unit_that_fails_brings_the_last_generation_back(tmp_path, make_bundle, inputs, names):
    push(tmp_path, make_bundle(1, agave__validator_env="good"), inputs, names, Units())
    units = Units("agave.service")
    with pytest.raises(AgentError, match=r"generation 2 was not taken.*generation 1 is current again") as caught:
        push(tmp_path, make_bundle(2, agave__validator_env="bad"), inputs, names, units)
    assert caught.value.code == "config-rejected"
    assert config.current_generation(tmp_path) == "1"
    assert str((tmp_path / "by-image" / IMAGE).readlink()) == "../1"
    assert units.done == ["restart agave.service"] * 2


def test_undeclared_path_is_refused_before_anything_is_written(tmp_path, make_bundle, inputs, names):
    with pytest.raises(AgentError, match="no config file etc/shadow"):
        push(tmp_path, make_bundle(1, etc__shadow="x"), inputs, names, Units())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", ".bundle.json", "a/.hidden", "", "a//b", "a/./b", "."]
)
def test_paths_stay_inside(key, path):
    fields = {"schema_version": 1, "host": "lab-1", "generation": 1, "image": IMAGE}
    fields["files"] = [{"path": path, "mode": "0640", "owner": "0", "group": "0", "content": ""}]
    with pytest.raises(AgentError, match="no plain relative path"):
        bundle_of.open_bundle(key.envelope(bundle_of.PAYLOAD_TYPE, fields), {key.key_id: key.raw}, "lab-1")


@pytest.mark.parametrize("mode", ["4755", "rw", "888", ""])
def test_modes_are_plain(make_bundle, mode):
    with pytest.raises(AgentError, match="is not like 0640"):
        make_bundle(1, mode=mode, agave__validator_env="x")


def test_bundle_of_another_host_is_refused(make_bundle):
    with pytest.raises(AgentError, match="for lab-2, this is lab-1"):
        make_bundle(1, host="lab-2")


@pytest.mark.parametrize("generation", ["../1", "", ".x", "a/b"])
def test_generation_names_are_plain(make_bundle, generation):
    with pytest.raises(AgentError, match="generation"):
        make_bundle(generation)


def test_same_bundle_again_is_fine_another_is_not(tmp_path, make_bundle, inputs, names):
    bundle = make_bundle(1, agave__validator_env="A=1")
    push(tmp_path, bundle, inputs, names, Units())
    assert push(tmp_path, bundle, inputs, names, Units()) == []
    with pytest.raises(AgentError, match="generation 1 is there with other content"):
        push(tmp_path, make_bundle(1, agave__validator_env="A=2"), inputs, names, Units())


def test_installer_moves_a_generation_of_the_same_number_aside(tmp_path, make_bundle, inputs, names):
    push(tmp_path, make_bundle(1, image="2" * 64, agave__validator_env="old"), inputs, names, Units())
    bundle = make_bundle(1, agave__validator_env="new")
    for _ in range(2):
        config.make_room(tmp_path, bundle)
        config.write_generation(tmp_path, bundle, names)
        config.assign(tmp_path, bundle)
    assert (tmp_path / "by-image" / IMAGE / "agave/validator.env").read_text() == "new"
    assert (tmp_path / "by-image" / ("2" * 64) / "agave/validator.env").read_text() == "old"


def test_leftovers_of_a_power_cut_are_no_obstacle(tmp_path, make_bundle, inputs, names):
    (tmp_path / ".new-1/agave").mkdir(parents=True)
    (tmp_path / ".new-1/agave/old").write_text("half")
    (tmp_path / ".current.new").symlink_to("nowhere")
    push(tmp_path, make_bundle(1, agave__validator_env="A=1"), inputs, names, Units())
    assert not (tmp_path / "current/agave/old").exists()


def test_old_generations_go_but_none_that_an_image_boots_with(tmp_path, make_bundle, inputs, names):
    push(tmp_path, make_bundle(1, image="2" * 64, agave__validator_env="first"), inputs, names, Units())
    for generation in range(2, 12):
        push(tmp_path, make_bundle(generation, agave__validator_env=str(generation)), inputs, names, Units())
    left = {path.name for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()} - {"by-image"}
    assert {"1", "11"} <= left
    assert len(left) == 7


def test_each_image_says_which_generation_it_boots_with(tmp_path, make_bundle, inputs, names):
    first, second = make_bundle(generation="1"), make_bundle(generation="2")
    push(tmp_path, first, inputs, names, lambda _: None)
    push(tmp_path, second, inputs, names, lambda _: None)
    assert config.assigned_generations(tmp_path) == {first.image_id: "2"}
    shutil.rmtree(tmp_path / "2")
    assert config.assigned_generations(tmp_path) == {}


def test_owners_are_those_of_the_image():
    found = parse_names("root:x:0:0::/:/bin/sh\nsol:x:601:601::/:/bin/sh\n", "sol:x:602:\n")
    assert (found.user("sol"), found.group("sol"), found.user("7"), found.group("root")) == (601, 602, 7, 0)
    with pytest.raises(AgentError, match="no user nobody"):
        found.user("nobody")


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"files": [{}]}', '{"files": [{"path": "x", "units": [{"name": "a", "action": "stop"}]}]}']
)
def test_bad_declaration_is_an_error_of_the_image(text):
    with pytest.raises(AgentError, match="wrongly"):
        parse_inputs([text])
