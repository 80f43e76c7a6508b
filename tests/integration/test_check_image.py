"""Specs that hold only where two layers meet that do not need each other: run where these are, and nowhere else."""

import json
import shutil

import pytest
import yaml

from qtrade.errors import NotFound, Refused
from qtrade.settings import load_settings
from tests.fakes.tiny import TinyProject, make_tiny_project

pytestmark = pytest.mark.integration

SPEC = """
import pytest


@pytest.mark.image
def test_both_layers_are_there(host):
    assert host.check_output("jq -nr '1 + 1'") == "2"
    assert host.file("/usr/share/tiny/two.txt").exists
"""
SKIPPED = """

@pytest.mark.image
def test_a_program_that_is_not_there(host):
    pytest.skip("the image has no such program")
"""


READS = """
import pytest


@pytest.mark.image
def test_the_port_is_declared(host):
    assert host.file("/usr/share/qtrade/interfaces.d/two.json").content_string == "PORT"
    assert not host.file("/usr/share/tiny/two.txt").exists
"""


def declare(tiny: TinyProject, text: str) -> None:
    """Let `two` declare an interface; a later task replaces an earlier one's file."""
    tiny.add_task("two", "ansible.builtin.file", path="/usr/share/qtrade/interfaces.d", state="directory")
    tiny.add_task("two", "ansible.builtin.copy", dest="/usr/share/qtrade/interfaces.d/two.json", content=text)


def write_spec(tiny: TinyProject, text: str, *, needs: str = "two") -> None:
    specs = tiny.settings.project / "ansible/roles/one/specs"
    (specs / "test_together.py").write_text(text)
    (specs / "image.yml").write_text(f"needs: [{needs}]\n")


def add_layer_three(tiny: TinyProject) -> None:
    """Give the recipe another layer like `two`, which nobody needs."""
    ansible, recipe = tiny.settings.project / "ansible", tiny.settings.project / "manifests/images/tiny.yaml"
    shutil.copytree(ansible / "roles/two", ansible / "roles/three")
    for path in (tiny.tasks("three"), ansible / "playbooks/three.yml"):
        source = tiny.tasks("two") if path.name == "main.yml" else ansible / "playbooks/two.yml"
        path.write_text(source.read_text().replace("two", "three").replace("/tiny", "/tiny-three"))
    fields = yaml.safe_load(recipe.read_text())
    fields["layers"].append({"role": "three", "vars": {"three_text": "tiny"}})
    recipe.write_text(yaml.safe_dump(fields))


def checks(tiny: TinyProject) -> int:
    return tiny.reporter.steps.count("check image one")


def test_layers_that_do_not_fit_each_other_stop_the_image(tmp_path) -> None:
    tiny = make_tiny_project(load_settings(), tmp_path)
    write_spec(tiny, SPEC.replace('== "2"', '== "3"'))
    for _ in range(2):  # a failure is not remembered
        with pytest.raises(Refused, match="1 of 1 specs of one fail on the layers base, one, two together") as caught:
            tiny.bake("1.0")
        assert caught.value.details.startswith("  one: test_both_layers_are_there[chroot")
    with pytest.raises(NotFound):
        tiny.store.read("tiny", "1.0")
    write_spec(tiny, SPEC)
    tiny.bake("1.0")
    assert checks(tiny) == 3
    tiny.bake("1.1")
    assert checks(tiny) == 3


def test_specs_run_again_where_a_layer_that_they_declare_changed_and_see_no_other(tmp_path) -> None:
    tiny = make_tiny_project(load_settings(), tmp_path)
    add_layer_three(tiny)
    write_spec(tiny, SPEC)
    tiny.bake("1.0")
    tiny.add_task("three", "ansible.builtin.file", path="/usr/share/tiny-three/more", state="directory")
    assert tiny.bake("1.1").built == ("three",)
    assert checks(tiny) == 1
    # What they do not declare is not there, so that no hit can hide it.
    write_spec(tiny, SPEC.replace("tiny/two.txt", "tiny-three/two.txt".replace("two", "three")))
    with pytest.raises(Refused, match="1 of 1 specs of one fail on the layers base, one, two together"):
        tiny.bake("1.2")
    write_spec(tiny, SPEC)
    tiny.add_task("two", "ansible.builtin.file", path="/usr/share/tiny/two.txt", state="absent")
    with pytest.raises(Refused, match="1 of 1 specs of one fail"):
        tiny.bake("1.3")
    assert checks(tiny) == 3


def test_specs_read_what_another_role_declares_and_nothing_else_of_its_layer(tmp_path) -> None:
    tiny = make_tiny_project(load_settings(), tmp_path)
    declare(tiny, "80")
    write_spec(tiny, READS.replace("PORT", "80"))
    (tiny.settings.project / "ansible/roles/one/specs/image.yml").write_text("interfaces: [two]\n")
    tiny.bake("1.0")
    tiny.add_task("two", "ansible.builtin.file", path="/usr/share/tiny/more", state="directory")
    assert "two" in tiny.bake("1.1").built
    assert checks(tiny) == 1, "other bytes of that layer, the same declaration"
    declare(tiny, "81")
    with pytest.raises(Refused, match="fail on the layers base, one together, with the interfaces of two"):
        tiny.bake("1.2")
    assert checks(tiny) == 2


def test_a_spec_that_is_skipped_is_said_loudly_and_counts_as_not_proven(tmp_path) -> None:
    tiny = make_tiny_project(load_settings(), tmp_path)
    write_spec(tiny, SPEC + SKIPPED)
    with pytest.raises(Refused, match="recipe tiny has no stand-ins, but specs of one were skipped") as caught:
        tiny.bake("1.0")
    assert "the image has no such program" in caught.value.details
    give_standin(tiny)
    done = tiny.run("bake", "--recipe", "tiny", "--version", "1.0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "1.0"
    assert "NOT PROVEN: specs of one were skipped" in done.stderr
    assert "the image has no such program" in done.stderr


def give_standin(tiny: TinyProject) -> None:
    path = tiny.settings.project / "manifests/images/tiny.yaml"
    (tiny.settings.project / "part").write_text("a part")
    part = {"kind": "source", "path": "part", "version": "1", "standin": True}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "components": {"part": part}}))
