"""The role agave as its programs and its table are in the checkout."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

PROJECT = Path(__file__).resolve().parents[4]
ROLE = PROJECT / "ansible/roles/agave"
BORROWED = {
    "postgres": ["postgres_port"],
    "geyser": ["geyser_grpc_listen", "geyser_prometheus_address"],
    "qtrade_client": ["qtrade_client_health_address"],
}
PROGRAMS = ROLE / "files/usr/lib/qtrade/agave"


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"agave_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def plans() -> ModuleType:
    return load_module(ROLE / "filter_plugins/agave_start.py")


@pytest.fixture(scope="session")
def start() -> ModuleType:
    return load_module(PROGRAMS / "start.py")


@pytest.fixture(scope="session")
def save_state() -> ModuleType:
    return load_module(PROGRAMS / "save_state.py")


@pytest.fixture(scope="session")
def ready() -> ModuleType:
    return load_module(PROGRAMS / "ready.py")


@pytest.fixture(scope="session")
def command_line() -> ModuleType:
    return load_module(PROJECT / "tests/standins/agave/standin/command_line.py")


def render(value: Any, variables: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: render(item, variables) for name, item in value.items()}
    if isinstance(value, list):
        return [render(item, variables) for item in value]
    return (
        NativeEnvironment().from_string(value).render(variables) if isinstance(value, str) and "{{" in value else value
    )


@pytest.fixture
def table() -> Callable[..., dict[str, Any]]:
    """Return the table as Ansible hands it to the filter, with the role's defaults or other variables."""

    def read(**variables: Any) -> dict[str, Any]:
        defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
        found = yaml.safe_load((ROLE / "vars/main.yml").read_text())
        names = (
            "minors",
            "xdp_flags",
            "flag_changes",
            "start_flags",
            "host_flags",
            "decided_flags",
            "reserved_flags",
            "interfaces",
            "taken_ports",
        )
        short = {"xdp_flags": "xdp", "flag_changes": "changes", "start_flags": "start", "host_flags": "host"}
        short |= {"decided_flags": "decided", "reserved_flags": "reserved", "taken_ports": "taken"}
        borrowed = {
            name: yaml.safe_load((ROLE.parent / owner / "defaults/main.yml").read_text())[name]
            for owner, names in BORROWED.items()
            for name in names
        }
        return {
            short.get(name, name): render(found[f"agave_{name}"], {**defaults, **borrowed, **variables})
            for name in names
        }

    return read


XDP = {
    "needs_cores": False,
    "off": "--no-xdp",
    "interface": "--xdp-interface",
    "cpu_cores": "--xdp-cpu-cores",
    "zero_copy": "--xdp-zero-copy",
}


def install_start(folder: Path, config: dict[str, Any]) -> list[str]:
    """Lay start.py with its paths in a folder, and a validator that tells its capabilities and arguments; return Python's arguments."""
    table = {
        "host": {"entrypoints": {"flag": "--entrypoint", "factor": 1}},
        "xdp": XDP,
        "version": "4.2.1",
        "data_of": ["4.1", "4.2", "4.3"],
        "poh_core": 0,
    }
    (folder / "start.json").write_text(json.dumps(table))
    (folder / "validator.json").write_text(json.dumps(config))
    (folder / "ledger").mkdir(exist_ok=True)
    program = folder / "validator"
    program.write_text('#!/bin/sh\ngrep CapPrm /proc/self/status\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    text = (PROGRAMS / "start.py").read_text()
    for old, new in (
        ("/opt/agave/current/bin/agave-validator", program),
        ("/usr/lib/qtrade/agave/start.json", folder / "start.json"),
        ("/run/qtrade/state/config/current/agave/validator.json", folder / "validator.json"),
    ):
        assert old in text
        text = text.replace(old, str(new))
    (folder / "start.py").write_text(text)
    return ["-ISB", str(folder / "start.py")]
