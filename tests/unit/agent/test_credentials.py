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
SHARED = [UNITS[1], {"name": "third.service", "action": "reload"}]
INPUTS = parse_inputs(
    [json.dumps({"secrets": [{"name": "token", "units": UNITS}, {"name": "certificate", "units": SHARED}]})]
)
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
        assert program == "systemd-creds"
        assert name.removeprefix("--name=") in INPUTS.secrets
        if verb == "decrypt":
            return Path(source).read_text()
        Path(target).write_bytes(stdin)
        return ""

    monkeypatch.setattr(credentials, "run", creds)
    return tmp_path / "credstore"


def send(store, value, units):
    return credentials.store_secrets(store, [Secret("token", value)], INPUTS, units)


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
    secrets = [Secret("token", b"a"), Secret("other", b"x")]
    with pytest.raises(AgentError, match="declares no secret other"):
        credentials.store_secrets(store, secrets, INPUTS, Units())
    assert not store.exists()


def test_a_unit_that_reads_several_secrets_acts_once_when_all_are_stored(store):
    stored = []

    class Reading(Units):
        def __call__(self, action):
            super().__call__(action)
            stored.append(sorted(path.name for path in store.iterdir() if not path.name.startswith(".")))

    units = Reading()
    secrets = [Secret("token", b"a"), Secret("certificate", b"b")]
    assert credentials.store_secrets(store, secrets, INPUTS, units) == [*ALL, "third.service"]
    assert units.done == [*ALL, "third.service"]
    assert stored == [["certificate", "token"]] * 3


def test_only_units_of_what_changed_act(store):
    credentials.store_secrets(store, [Secret("token", b"a"), Secret("certificate", b"b")], INPUTS, Units())
    units = Units()
    secrets = [Secret("token", b"a"), Secret("certificate", b"c")]
    assert credentials.store_secrets(store, secrets, INPUTS, units) == ["second.service", "third.service"]


def test_a_unit_that_did_not_take_one_of_several_keeps_all_pending(store):
    secrets = [Secret("token", b"a"), Secret("certificate", b"b")]
    with pytest.raises(AgentError, match=r"third\.service did not end"):
        credentials.store_secrets(store, secrets, INPUTS, Units("third.service"))
    assert credentials.store_secrets(store, secrets, INPUTS, Units()) == [*ALL, "third.service"]
    assert sorted(path.name for path in store.iterdir()) == ["certificate", "token"]


def test_all_secrets_change_in_one_step(store, monkeypatch):
    """A certificate never lies beside the key of another: power that fails before the step leaves all old, after it all new."""
    send(store, b"a", Units())
    credentials.store_secrets(store, [Secret("certificate", b"a")], INPUTS, Units())
    seen = []
    exchange = credentials.durable.exchange

    def watched(new, old):
        seen.append({path.name: path.read_bytes() for path in old.iterdir() if not path.name.startswith(".")})
        exchange(new, old)
        seen.append({path.name: path.read_bytes() for path in old.iterdir() if not path.name.startswith(".")})

    monkeypatch.setattr(credentials.durable, "exchange", watched)
    credentials.store_secrets(store, [Secret("token", b"b"), Secret("certificate", b"b")], INPUTS, Units())
    assert seen == [{"token": b"a", "certificate": b"a"}, {"token": b"b", "certificate": b"b"}]
    assert [path.name for path in store.parent.iterdir()] == ["credstore"]


def test_what_a_power_cut_left_beside_the_store_is_no_obstacle(store):
    send(store, b"a", Units())
    left = store.with_name("credstore.new")
    left.mkdir()
    (left / "token").write_bytes(b"half")
    send(store, b"b", Units())
    assert (store / "token").read_bytes() == b"b"
    assert not left.exists()


def test_a_secret_that_is_forgotten_goes_and_its_units_act(store):
    credentials.store_secrets(store, [Secret("token", b"a"), Secret("certificate", b"b")], INPUTS, Units())
    units = Units()
    assert credentials.store_secrets(store, [], INPUTS, units, forget=["certificate"]) == [
        "second.service",
        "third.service",
    ]
    assert sorted(path.name for path in store.iterdir()) == ["token"]
    assert credentials.store_secrets(store, [], INPUTS, Units(), forget=["certificate"]) == []


def test_stamps_change_with_each_write_and_leave_out_what_units_did_not_take(store):
    send(store, b"a", Units())
    first = credentials.stamps(store)
    assert set(first) == {"token"}
    assert credentials.stamps(store) == first
    with pytest.raises(AgentError):
        send(store, b"b", Units("first.service"))
    assert credentials.stamps(store) == {}
