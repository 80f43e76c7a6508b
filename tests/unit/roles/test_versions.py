"""Versions are arguments, and nothing is `latest`."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtrade.manifest import Recipe, load_manifest

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[3]
FOLDERS = ("ansible", "manifests", "packer")
# Words that let a version move by itself.
MOVING = re.compile(
    r"(?i:\blatest\b)|\bnightly\b|refs/heads/|https?://\S*/(main|master)/|version:\s*[\"']?(main|master|\*)"
    r"|state:\s*[\"']?(build-dep|upgraded)|\bdist-upgrade\b|upgrade:\s"
)


def read_texts() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".md") and "schemas" not in path.parts:
                yield str(path.relative_to(PROJECT)), path.read_text(errors="replace")


def moving_lines(text: str) -> list[str]:
    """Return the lines that ask for a version which moves; comments ask for nothing."""
    return [line for line in text.splitlines() if MOVING.search(line) and not line.lstrip().startswith(("#", "--"))]


def test_no_role_playbook_recipe_or_template_asks_for_a_version_that_moves() -> None:
    found = {path: lines for path, text in read_texts() if (lines := moving_lines(text))}
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "  state: latest",
        "image: registry/thing:latest",
        "url: https://example.org/releases/latest/download/x",
        "version: main",
        "  state: build-dep",
        "  upgrade: dist",
        "tag: nightly",
        "git: https://example.org/x/refs/heads/dev",
    ],
)
def test_the_search_would_find_one(line) -> None:
    assert moving_lines(line) == [line]


def test_the_search_reads_the_files_that_matter() -> None:
    paths = {path for path, _ in read_texts()}
    assert {"manifests/images/production.yaml", "packer/plugins.pkr.hcl", "ansible/playbooks/agave.yml"} <= paths
    assert any(path.startswith("ansible/roles/postgres/tasks/") for path in paths)


@pytest.mark.parametrize("name", ["lab", "production"])
def test_every_component_has_one_version_and_its_role_is_told(name) -> None:
    recipe = load_manifest(Recipe, PROJECT / f"manifests/images/{name}.yaml")
    for part, component in recipe.components.items():
        assert re.search(r"\d", component.version), f"{part} has version {component.version}"
    given = {key: value for layer in recipe.layers for key, value in layer.vars.items() if key.endswith("_version")}
    for key, value in given.items():
        part = key.removesuffix("_version").replace("_", "-")
        if part in recipe.components:  # a Debian package's version is in the lock
            assert upstream_of(recipe.components[part].version) == value, (
                f"{key} is not the version of component {part}"
            )
    assert {"agave_version", "geyser_version", "qtrade_client_version"} <= set(given)


def upstream_of(version: str) -> str:
    """Return a Debian version without epoch and revision; others as they are."""
    return re.sub(r"^\d+:|-\d+$", "", version)


def test_ansible_and_with_it_every_collection_is_pinned_to_one_version() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert any(re.fullmatch(r"ansible==\d+\.\d+\.\d+", item.split(";")[0].strip()) for item in project["dependencies"])
    collections = PROJECT / "ansible/collections/ansible_collections"
    assert {path.parent.name for path in collections.glob("*/*/galaxy.yml")} == {"image"}, (
        "others come with Ansible's pin"
    )


def test_the_plugin_of_packer_is_pinned_to_one_version() -> None:
    text = (PROJECT / "packer/plugins.pkr.hcl").read_text()
    versions = re.findall(r'version\s*=\s*"([^"]*)"', text)
    assert len(versions) == text.count("source")
    for version in versions:
        assert re.fullmatch(r"= ?\d+\.\d+\.\d+", version), version
