"""A new version in a recipe: one word changes, comments and layout stay."""

from pathlib import Path

import pytest

from bake.lock.edit import edit_version, mentions, parse_name
from qtrade.errors import BadInput, NotFound, UsageError
from tests.fakes.examples import sha

pytestmark = pytest.mark.unit

RECIPE = f"""\
# The first line.
schema_version: 1
name: demo
epoch: 1

base:
  suite: trixie
  kernel: linux-image-amd64
  packages: [udev]  # short

cmdline: "console=ttyS0 quiet"
size_budget_mib: 100

components:
  # A plugin.
  plugin: {{kind: url, url: "https://example.org/{{version}}/x", version: "1.0+solana.4.2.0", standin: true}}
  pinned: {{kind: url, url: "https://example.org/y", version: "1", sha256: {sha("y")}, size: 5}}
  source:
    kind: source
    version: "2"
    git: {{url: "https://example.org/s.git", tag: "v{{version}}", commit: {"a" * 40}}}
    build: {{packages: [gcc], command: make, output: out}}

layers:
  - role: one
    vars: {{plugin_version: "1.0+solana.4.2.0", other: 5}}
    components: [plugin]
"""


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(RECIPE)
    return path


def test_only_the_version_changes(path) -> None:
    recipe = edit_version(path, "plugin", "1.1+solana.4.2.0")
    old = 'version: "1.0+solana.4.2.0", standin'
    assert path.read_text() == RECIPE.replace(old, old.replace("1.0+", "1.1+"))
    assert recipe.components["plugin"].version == "1.1+solana.4.2.0"
    assert [item.name for item in path.parent.iterdir()] == ["demo.yaml"]


def test_a_dry_run_writes_nothing(path) -> None:
    assert edit_version(path, "plugin", "9", dry_run=True).components["plugin"].version == "9"
    assert path.read_text() == RECIPE


def test_a_version_that_reads_like_a_number_stays_text(path) -> None:
    assert edit_version(path, "plugin", "9").components["plugin"].version == "9"


@pytest.mark.parametrize(("name", "pinned"), [("pinned", "sha256, size"), ("source", "git.commit")])
def test_what_pins_more_than_a_version_is_left_to_people(path, name, pinned) -> None:
    with pytest.raises(UsageError, match=f"component {name} pins {pinned}"):
        edit_version(path, name, "9")
    assert path.read_text() == RECIPE


def test_a_version_that_is_none_and_a_component_that_is_none_are_refused(path) -> None:
    with pytest.raises(BadInput, match="not a valid recipe"):
        edit_version(path, "plugin", "a b")
    with pytest.raises(NotFound, match="has no component ghost"):
        edit_version(path, "ghost", "1")
    assert path.read_text() == RECIPE


def test_variables_that_hold_the_version_are_named(path) -> None:
    recipe = edit_version(path, "plugin", "9", dry_run=True)
    assert mentions(recipe, "1.0+solana.4.2.0") == ("layers.one.vars.plugin_version",)
    assert mentions(recipe, "7") == ()


@pytest.mark.parametrize(("text", "parsed"), [("a", ("a", None)), ("a=1", ("a", "1")), ("a=1:2=3", ("a", "1:2=3"))])
def test_a_name_may_carry_a_version(text, parsed) -> None:
    assert parse_name(text) == parsed


@pytest.mark.parametrize("text", ["", "=1", "a="])
def test_a_name_or_a_version_that_is_empty_is_refused(text) -> None:
    with pytest.raises(BadInput, match="neither NAME nor NAME=VERSION"):
        parse_name(text)
