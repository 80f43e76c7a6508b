"""What is done to units, by a systemctl that only remembers."""

import pytest

from flash.agent import units
from flash.agent.errors import AgentError
from flash.agent.units import UnitAction

pytestmark = pytest.mark.unit


class Systemctl:
    """Remembers the calls; a unit that is not loaded makes `reset-failed` end with 1."""

    def __init__(self, *broken):
        self.calls, self.broken = [], broken

    def __call__(self, program, verb, name, *, timeout_s=300, allowed=0):
        assert program == "systemctl"
        assert verb != "reset-failed" or allowed == 1
        self.calls.append((verb, name))
        if verb in self.broken and self.calls.count((verb, name)) == 1:
            raise AgentError("program-failed", "refused")
        return ""


def test_starts_of_earlier_pushes_do_not_count_against_this_one(monkeypatch):
    systemctl = Systemctl()
    monkeypatch.setattr(units, "run", systemctl)
    units.act(UnitAction("agave.service", "restart"))
    assert systemctl.calls == [("reset-failed", "agave.service"), ("restart", "agave.service")]


def test_a_reload_asks_once_and_a_failed_unit_twice(monkeypatch):
    systemctl, refusing = Systemctl(), Systemctl("reload-or-restart")
    monkeypatch.setattr(units, "run", systemctl)
    units.act(UnitAction("agave.service", "reload"))
    assert systemctl.calls == [("reload-or-restart", "agave.service")]
    monkeypatch.setattr(units, "run", refusing)
    units.act(UnitAction("agave.service", "reload"))
    assert [verb for verb, _ in refusing.calls] == ["reload-or-restart", "reset-failed", "reload-or-restart"]
