"""The agent runs where nothing but an old Python is: its sources say so."""

import ast
import sys
from pathlib import Path

import pytest

from flash.agent import confine

pytestmark = pytest.mark.unit

SOURCES = sorted(Path(confine.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_source_is_python_39_and_imports_the_standard_library_only(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert str(node.module).partition(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_module_is_small(path):
    assert len(path.read_text().splitlines()) <= 300


def test_confinement_lets_write_to_the_given_devices_only():
    command = confine.render_command(["/dev/vda", "/dev/vda3"], "run")
    rules = [one.partition("DeviceAllow=")[2] for one in command if "DeviceAllow=" in one]
    assert "--property=DevicePolicy=closed" in command
    assert "block-* r" in rules
    writable = {rule.rpartition(" ")[0] for rule in rules if "w" in rule.rpartition(" ")[2]}
    assert {one for one in writable if one.startswith("/dev/vd")} == {"/dev/vda", "/dev/vda3"}
    assert confine.is_confined({"QTRADE_CONFINED": "1"})
    assert not confine.is_confined({})
