"""Draining and taking it back, with programs of the test that only remember."""

from types import SimpleNamespace

import pytest

from flash.agent import actions
from flash.agent.errors import AgentError

pytestmark = pytest.mark.unit


class Programs:
    """A drain.d whose programs note their name and arguments; those in `failing` end with 3."""

    def __init__(self, folder):
        self.folder, self.log = folder / "drain.d", folder / "log"
        self.folder.mkdir()
        self.task = SimpleNamespace(reporter=SimpleNamespace(progress=lambda *_, **__: None))

    def add(self, *names, code=0):
        for name in names:
            path = self.folder / name
            path.write_text(f'#!/bin/sh\necho {name} "$@" >>{self.log}\nexit {code}\n')
            path.chmod(0o755)

    def said(self):
        lines = self.log.read_text().splitlines()
        self.log.unlink()
        return lines


@pytest.fixture
def programs(tmp_path, monkeypatch):
    made = Programs(tmp_path)
    monkeypatch.setattr(actions, "DRAIN", made.folder)
    return made


def test_a_drain_is_taken_back_last_to_first(programs):
    programs.add("40-client", "60-postgres", "50-agave")
    assert actions.drain(programs.task) == {"drained": ["40-client", "50-agave", "60-postgres"]}
    assert programs.said() == ["40-client", "50-agave", "60-postgres"]
    assert actions.undrain(programs.task) == {"undrained": ["60-postgres", "50-agave", "40-client"]}
    assert programs.said() == ["60-postgres undrain", "50-agave undrain", "40-client undrain"]


def test_the_first_fault_ends_a_drain(programs):
    programs.add("40-client", "60-postgres")
    programs.add("50-agave", code=3)
    with pytest.raises(AgentError, match=r"50-agave ended with 3.*nothing was switched"):
        actions.drain(programs.task)
    assert programs.said() == ["40-client", "50-agave"]


def test_a_fault_keeps_no_other_service_from_its_start(programs):
    programs.add("40-client", "60-postgres")
    programs.add("50-agave", code=3)
    with pytest.raises(AgentError, match="50-agave ended with 3") as caught:
        actions.undrain(programs.task)
    assert caught.value.code == "undrain-failed"
    assert programs.said() == ["60-postgres undrain", "50-agave undrain", "40-client undrain"]


def test_an_image_without_services_has_nothing_to_drain(programs):
    programs.folder.rmdir()
    assert actions.drain(programs.task) == {"drained": []}
    assert actions.undrain(programs.task) == {"undrained": []}
