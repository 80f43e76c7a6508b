"""The Python of a suite must be one that Ansible supports on targets."""

import configparser
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from ansible.module_utils import basic

from ansible import constants
from bake import target_python
from bake.packer import environment
from bake.run import load_recipe
from bake.target_python import SUITE_PYTHON, TARGET_PYTHON, check_target_python
from qtrade.errors import BadInput
from tests.fakes.examples import make_recipe, make_settings, recipe_fields

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[3]


def recipe_of(suite: str):
    return make_recipe(base={"suite": suite, "kernel": "k", "packages": []})


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "noble"])
def test_the_suites_of_the_recipes_fit_the_installed_ansible(suite) -> None:
    check_target_python(recipe_of(suite))


def test_an_ansible_that_does_not_support_the_suites_python_is_named_with_the_cure(monkeypatch) -> None:
    monkeypatch.setitem(target_python.TARGET_PYTHON, (2, 17), ((3, 7), (3, 12)))
    with pytest.raises(BadInput) as caught:
        check_target_python(recipe_of("trixie"), "2.17.4")
    assert caught.value.brief == (
        "recipe demo: trixie has Python 3.13, which ansible-core 2.17.4 does not support on targets"
    )
    assert caught.value.details == "it supports 3.7 to 3.12; ansible-core for 3.13: 2.18, 2.19, 2.20"
    assert "pyproject.toml" in caught.value.resolution
    assert "base.suite" in caught.value.resolution
    check_target_python(recipe_of("noble"), "2.17.4")


@pytest.mark.parametrize(("python", "fits"), [((3, 7), False), ((3, 8), True), ((3, 13), True), ((3, 14), False)])
def test_first_and_last_are_supported_and_their_neighbours_are_not(monkeypatch, python, fits) -> None:
    monkeypatch.setitem(target_python.SUITE_PYTHON, "trixie", python)
    if fits:
        check_target_python(recipe_of("trixie"), "2.19.14")
    else:
        with pytest.raises(BadInput, match="does not support"):
            check_target_python(recipe_of("trixie"), "2.19.14")


def test_a_suite_and_an_ansible_that_nobody_knows_are_refused() -> None:
    with pytest.raises(BadInput, match="which Python forky has is not known") as caught:
        check_target_python(recipe_of("forky"))
    assert caught.value.details == "known suites: bookworm, noble, trixie"
    with pytest.raises(BadInput, match=r"ansible-core 2\.99\.0 supports on targets is not known"):
        check_target_python(recipe_of("trixie"), "2.99.0")


def test_the_table_is_that_of_the_installed_ansible() -> None:
    major, minor = map(int, version("ansible-core").split(".")[:2])
    names = [name for name in constants.INTERPRETER_PYTHON_FALLBACK if name.startswith("python3.")]
    found = sorted(tuple(map(int, name.removeprefix("python").split("."))) for name in names)
    assert TARGET_PYTHON[major, minor] == (basic._PY_MIN, found[-1])
    assert found[0] == basic._PY_MIN


def test_the_interpreters_are_named_and_not_guessed() -> None:
    config = configparser.ConfigParser()
    config.read(PROJECT / "ansible/ansible.cfg")
    assert config["defaults"]["interpreter_python"] == "/usr/bin/python3"
    first = environment(PROJECT)["PATH"].split(":")[0]
    assert first == str(Path(sys.executable).parent), "Packer would find another Ansible than that of this environment"


def test_every_recipe_has_a_suite_that_is_known() -> None:
    for path in (PROJECT / "manifests/images").glob("*.yaml"):
        assert yaml.safe_load(path.read_text())["base"]["suite"] in SUITE_PYTHON


def test_it_is_refused_before_anything_is_planned(tmp_path, monkeypatch) -> None:
    settings = make_settings(tmp_path)
    for layer in recipe_fields()["layers"]:
        (settings.project / "ansible/roles" / layer["role"]).mkdir()
    (settings.project / "manifests/images/demo.yaml").write_text(yaml.safe_dump(recipe_fields()))
    assert load_recipe(settings, "demo").name == "demo"
    monkeypatch.setitem(target_python.SUITE_PYTHON, "trixie", (3, 15))
    with pytest.raises(BadInput, match=r"trixie has Python 3\.15"):
        load_recipe(settings, "demo")
