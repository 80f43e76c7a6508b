"""A host without drift, and `qtrade drift` over it, with the real agent behind an SSH that is none."""

import pytest

from flash.agent_link import AgentLink
from tests.fakes.cli import Cli
from tests.fakes.drifting_host import DriftingHost, make_host
from tests.fakes.examples import make_settings


@pytest.fixture
def host(tmp_path, monkeypatch) -> DriftingHost:
    settings = make_settings(tmp_path)
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    monkeypatch.delenv("QTRADE_DEBUG", raising=False)
    made = make_host(settings, tmp_path / "host", monkeypatch.setattr)
    monkeypatch.setattr(AgentLink, "observe", lambda _, **__: made.observe())
    return made


@pytest.fixture
def cli(monkeypatch, capsys) -> Cli:
    return Cli(monkeypatch, capsys)
