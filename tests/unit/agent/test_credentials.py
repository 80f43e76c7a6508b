"""Secrets in a folder of the test, with a systemd-creds that encrypts nothing."""

import json
from pathlib import Path

import pytest

from flash.agent import credentials
from flash.agent.errors import AgentError
from flash.agent.job import Secret
from flash.agent.units import parse_inputs

pytestmark = pytest.mark.unit

UNITS = [{"name": f"{name}.service", "action": "restart"} for name in ("first", "second")]
INPUTS = parse_inputs([json.dumps({"secrets": [{"name": "token", "units": UNITS}]})])
ALL = ["first.service", "second.service"]


class Units:
    """Records what is done to units; those in `failing` do not take it."""

    def __init__(self, *failing):
        self.failing = failing
        self.done = []

    def __call__(self, action):
        self.done.append(action.name)
        if action.name in self.failing:
            raise AgentError("program-timeout", f"{action.name} did not end")


@pytest.fixture
def store(tmp_path, monkeypatch):
    def creds(program, verb, name, source, target, *, stdin=b""):
        assert (program, name) == ("systemd-creds", "--name=token")
        if verb == "decrypt":
            return Path(source).read_text()
        Path(target).write_bytes(stdin)
        return ""

    monkeypatch.setattr(credentials, "run", creds)
    return tmp_path / "credstore"


def send(store, value, units):
    return credentials.store_secret(store, Secret("token", value), INPUTS, units)


def test_units_get_a_secret_once(store):
    first, again = Units(), Units()
    assert (send(store, b"a", first), send(store, b"a", again)) == (ALL, [])
    assert (first.done, again.done) == (ALL, [])
    assert (store / "token").read_bytes() == b"a"
    assert [path.name for path in store.iterdir()] == ["token"]


def test_a_secret_that_a_unit_did_not_take_is_not_there_already(store):
    with pytest.raises(AgentError, match=r"first\.service did not end"):
        send(store, b"a", Units("first.service"))
    with pytest.raises(AgentError):
        send(store, b"a", Units("second.service"))
    units = Units()
    assert send(store, b"a", units) == ALL
    assert units.done == ALL
    assert send(store, b"a", Units()) == []


def test_a_unit_that_fails_keeps_the_secret_from_no_other(store):
    units = Units(*ALL)
    with pytest.raises(AgentError, match=r"first\.service did not end; second\.service did not end"):
        send(store, b"a", units)
    assert units.done == ALL


def test_an_agent_that_is_killed_before_its_units_act_does_it_next_time(store):
    def die(action):
        raise KeyboardInterrupt

    send(store, b"a", Units())
    with pytest.raises(KeyboardInterrupt):
        send(store, b"b", die)
    assert (store / "token").read_bytes() == b"b"
    assert send(store, b"b", Units()) == ALL


def test_an_undeclared_secret_is_refused(store):
    with pytest.raises(AgentError, match="declares no secret other"):
        credentials.store_secret(store, Secret("other", b"x"), INPUTS, Units())
    assert not store.exists()
