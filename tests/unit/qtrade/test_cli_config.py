"""`qtrade config show` on the command line: data on stdout, words on stderr, exit codes."""

import json
import sys
from typing import Any

import pytest

from qtrade.cli import main
from qtrade.errors import BadInput, NotFound
from qtrade.manifest import RoleInputs
from tests.fakes.examples import make_settings
from tests.fakes.projects import publish_image, write_project

pytestmark = pytest.mark.unit

INPUTS = {
    "app": {
        "values": {
            "app_port": {"type": "int", "default": 1, "description": "TCP port that it listens on"},
            "app_peers": {"type": "list", "default": [f"192.0.2.{number}" for number in range(20)]},
        },
    }
}


@pytest.fixture
def show(tmp_path, monkeypatch, capsys):
    """Run `qtrade config show --host rpc-1` as the shell would; give exit code, stdout and stderr."""
    settings = make_settings(tmp_path)
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    monkeypatch.delenv("QTRADE_DEBUG", raising=False)
    write_project(settings, host={"config": {"app_port": 3}}, environment={"roles": {"rpc": {"app_port": 2}}})
    inputs = {role: RoleInputs.model_validate(fields) for role, fields in INPUTS.items()}
    publish_image(settings, inputs=inputs)
    publish_image(settings, inputs={}, version="0.0.9")

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["qtrade", "config", "show", "--host", "rpc-1", *args])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return int(code), out, err

    return run


def test_all_values_come_with_the_place_that_gives_them(show) -> None:
    code, out, err = show()
    peers, port = out.splitlines()
    assert (code, err) == (0, "")
    assert port == "app_port   3  (host rpc-1: config)"
    assert peers.startswith('app_peers  ["192.0.2.0", ')
    assert peers.endswith("…  (default of app)")


def test_why_shows_each_place_and_marks_the_one_that_counts(show) -> None:
    assert show("--why", "app_port")[1].splitlines() == [
        "app_port (int, of app): TCP port that it listens on",
        "  * host rpc-1: config: 3",
        "    environment development: roles.rpc: 2",
        "    default of app: 1",
    ]


def test_json_has_the_same(show) -> None:
    document = json.loads(show("--json", "--why", "app_port")[1])
    assert document["image"] == {"name": "demo", "version": "0.1.0"}
    assert document["values"] == {
        "app_port": {
            "value": 3,
            "from": "host rpc-1: config",
            "given": [
                {"place": "default of app", "value": 1},
                {"place": "environment development: roles.rpc", "value": 2},
                {"place": "host rpc-1: config", "value": 3},
            ],
            "type": "int",
            "role": "app",
        }
    }


def test_a_name_that_the_image_does_not_know_is_refused_and_the_known_ones_are_listed(show) -> None:
    code, out, err = show("--why", "app_prt")
    assert (code, out) == (NotFound.exit_code, "")
    assert "demo 0.1.0 knows no value app_prt" in err
    assert "known: app_peers, app_port" in err


def test_another_version_may_not_take_what_the_manifest_has(show) -> None:
    code, out, err = show("--version", "0.0.9")
    assert (code, out) == (BadInput.exit_code, "")
    assert "config.app_port is no value that demo 0.0.9 knows" in err
