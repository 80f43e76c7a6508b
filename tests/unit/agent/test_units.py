"""What is done to units, by a systemctl that only remembers."""

import pytest

from flash.agent import units
from flash.agent.units import UnitAction

pytestmark = pytest.mark.unit


class Systemctl:
    """Remembers the calls; a unit that is not loaded makes `reset-failed` end with 1."""

    def __init__(self):
        self.calls = []

    def __call__(self, program, verb, name, *, timeout_s=300, allowed=0):
        assert program == "systemctl"
        assert verb != "reset-failed" or allowed == 1
        self.calls.append((verb, name))
        return ""


@pytest.mark.parametrize(("action", "verb"), [("restart", "restart"), ("reload", "reload-or-restart")])
def test_starts_of_earlier_pushes_do_not_count_against_this_one(monkeypatch, action, verb):
    systemctl = Systemctl()
    monkeypatch.setattr(units, "run", systemctl)
    units.act(UnitAction("agave.service", action))
    assert systemctl.calls == [("reset-failed", "agave.service"), (verb, "agave.service")]
