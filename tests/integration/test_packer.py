"""The template of a layer with the real Packer."""

import re
import shutil
from pathlib import Path

import pytest

from bake import packer
from qtrade.errors import ToolError
from qtrade.settings import load_settings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def program() -> Path:
    return packer.locate(load_settings())


@pytest.fixture
def template() -> Path:
    return load_settings().project / "packer/layer"


@pytest.fixture
def variables(tmp_path) -> dict[str, str]:
    files = {}
    for name in ("playbook", "inventory", "vars_file"):
        files[name] = str(tmp_path / f"{name}.yml")
        Path(files[name]).write_text("{}")
    manifest = tmp_path / "manifest.json"
    packer.PackerBuild(Path("packer"), tmp_path, {}, manifest).prepare()
    keys = {"proxy_key": str(tmp_path / "proxy.key"), "proxy_public": str(tmp_path / "proxy.key.pub")}
    return {"role": "app", "root": "/srv/root", "manifest": str(manifest), **keys, **files}


def test_the_version_is_one_that_is_said_to_be_tried(program) -> None:
    assert ".".join(map(str, packer.version(program))) in packer.TRIED, (
        "add it to TRIED, README.md and docs when all tests pass"
    )


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md"])
def test_the_docs_name_the_versions_that_were_tried_and_no_others(name) -> None:
    text = (load_settings().project / name).read_text()
    (sentence,) = re.findall(r"[^.\n]*\bPacker\b[^.\n]*\btried\b[^\n]*|[^.\n]*\btried\b[^.\n]*\bPacker\b[^\n]*", text)
    assert re.findall(r"\b1\.\d+\.\d+\b", sentence) == list(packer.TRIED)
    assert "untested" in sentence


def test_the_templates_are_in_packers_format(program, template) -> None:
    packer.check_format(program, template)
    packer.check_format(program, template.parent)


def test_another_format_is_noticed(program, template, tmp_path) -> None:
    copy = shutil.copytree(template, tmp_path / "layer")
    path = copy / "source.pkr.hcl"
    path.write_text(path.read_text().replace("  communicator", "communicator"))
    with pytest.raises(ToolError):
        packer.check_format(program, copy)


def test_the_template_is_valid(program, template, variables, tmp_path) -> None:
    packer.validate(program, template, variables, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"role": "App"}, "The role is a lower-case name."),
        ({"root": "srv/root"}, "The root is an absolute path."),
        ({"playbook": "/nowhere.yml"}, "/nowhere.yml"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_variable_is_refused_in_packers_own_words(
    program, template, variables, tmp_path, change, words
) -> None:
    with pytest.raises(ToolError) as caught:
        packer.validate(program, template, {**variables, **change}, tmp_path)
    assert words in caught.value.details


def test_a_missing_variable_is_refused(program, template, variables, tmp_path) -> None:
    del variables["inventory"]
    with pytest.raises(ToolError) as caught:
        packer.validate(program, template, variables, tmp_path)
    assert "inventory" in caught.value.details
