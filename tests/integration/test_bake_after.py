"""What may follow a bake, by the options of the command: outputs, the record in the project, the boot test."""

import json
from pathlib import Path

import pytest

from bake.after import follow_up
from bake.run import BakeResult
from qtrade.errors import BadInput, NotFound
from qtrade.settings import load_settings
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinyProject:
    return make_tiny_project(load_settings(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def baked(tiny) -> BakeResult:
    return tiny.bake("1.0")


def test_a_bake_writes_the_outputs_and_the_record_that_it_is_asked_for(tiny, baked) -> None:
    options = ("--output", "netboot", "--record", "--json")
    made = tiny.qtrade("bake", "--recipe", "tiny", "--version", "1.1", *options)
    assert made["id"] == baked.image.id
    folder = tiny.settings.state_dir / "outputs/tiny/1.1/tiny_1.1.netboot"
    assert {Path(file) for file in made["files"]} == {path for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in (folder / "blobs").iterdir()} == set(baked.image.blobs())
    record = json.loads((tiny.settings.project / "manifests/releases/tiny/1.1.json").read_text())
    assert (record["id"], record["version"]) == (baked.image.id, "1.1")


def test_an_output_that_there_is_not_is_refused_before_the_bake(tiny, baked) -> None:
    done = tiny.run("bake", "--recipe", "tiny", "--version", "1.2", "--output", "iso")
    assert done.returncode == 2
    assert "--output iso is unknown" in done.stderr
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "1.2")


def test_what_follows_comes_in_order_and_a_boot_test_that_cannot_be_made_is_told(tiny, baked) -> None:
    with pytest.raises(BadInput, match=r"tiny 1\.0 cannot be boot-tested: nobody can log in"):
        follow_up(tiny.settings, baked, tiny.reporter, record=True, boot_test=True, outputs=("netboot",))
    assert (tiny.settings.project / "manifests/releases/tiny/1.0.json").is_file()
    assert not (tiny.settings.state_dir / "outputs/tiny/1.0").exists()
    assert follow_up(tiny.settings, baked, tiny.reporter) == ()
