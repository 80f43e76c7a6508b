"""Secrets that come with a config: they are settled with it, taken back with it, and no power cut parts them."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from flash.agent import credentials, trial
from flash.agent.errors import AgentError
from flash.agent.job import Secret
from tests.unit.agent.test_trial import FIRST, INPUTS, SECOND, Power, PowerCut, Rig, rig

__all__ = ["rig"]
pytestmark = pytest.mark.unit

OLD = {"token": b"old", "certificate": b"old"}
NEW = {"token": b"new", "certificate": b"old"}


@pytest.fixture(autouse=True)
def creds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a systemd-creds that encrypts nothing."""

    def run(program: str, verb: str, name: str, source: str, target: str, *, stdin: bytes = b"") -> str:
        assert program == "systemd-creds"
        if verb == "decrypt":
            return Path(source).read_text()
        Path(target).write_bytes(stdin)
        return ""

    monkeypatch.setattr(credentials, "run", run)


def put(rig: Rig, values: dict[str, bytes], forget: tuple[str, ...] = ()):
    """Return what `take` is to do with secrets."""
    secrets = [Secret(name, value) for name, value in values.items()]
    return lambda: credentials.put(rig.ground.store, secrets, INPUTS, forget=forget).actions


def stored(rig: Rig) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in rig.ground.store.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def pushed(rig: Rig) -> Rig:
    """A host that has two secrets, settled with generation 2."""
    rig.take("2", put=put(rig, OLD))
    rig.done.clear()
    assert stored(rig) == OLD
    assert beside(rig) == ["agent", "config", "credstore"]
    return rig


def beside(rig: Rig) -> list[str]:
    return sorted(path.name for path in rig.ground.store.parent.iterdir())


def test_they_are_settled_with_their_config(pushed: Rig) -> None:
    taken = pushed.take("3", app="3", put=put(pushed, NEW))
    assert taken.units == ["app.service", "token.service"]
    assert (stored(pushed), pushed.settled, beside(pushed)) == (NEW, "3", ["agent", "config", "credstore"])
    pushed.boot()
    assert stored(pushed) == NEW


def test_a_config_that_nobody_confirms_takes_them_back(pushed: Rig) -> None:
    pushed.take("3", net="3", put=put(pushed, NEW))
    assert stored(pushed) == NEW
    assert "credstore.before" in beside(pushed)
    pushed.now += 60
    pushed.done.clear()
    assert trial.revert(pushed.ground) == "3"
    assert (pushed.current, stored(pushed), beside(pushed)) == ("2", OLD, ["agent", "config", "credstore"])
    assert pushed.done == ["net.service", "token.service"]


def test_a_config_that_is_confirmed_keeps_them(pushed: Rig) -> None:
    pushed.take("3", net="3", put=put(pushed, NEW))
    trial.confirm(pushed.ground, FIRST, connected_at=200)
    assert (stored(pushed), beside(pushed)) == (NEW, ["agent", "config", "credstore"])


def test_a_config_that_a_unit_refuses_takes_them_back(pushed: Rig) -> None:
    pushed.failing.add("app.service")
    with pytest.raises(AgentError, match="was not taken"):
        pushed.take("3", app="3", put=put(pushed, NEW))
    assert (pushed.current, stored(pushed)) == ("2", OLD)
    assert pushed.done == ["app.service", "token.service"] * 2


def test_a_secret_that_was_dropped_comes_back(pushed: Rig) -> None:
    pushed.take("3", net="3", put=put(pushed, {}, forget=("certificate",)))
    assert stored(pushed) == {"token": b"old"}
    pushed.now += 60
    trial.revert(pushed.ground)
    assert stored(pushed) == OLD


def test_what_cannot_be_stored_changes_nothing(pushed: Rig) -> None:
    def fail() -> tuple[()]:
        credentials.put(pushed.ground.store, [Secret("token", b"new")], INPUTS)
        raise AgentError("program-failed", "systemd-creds: no space left on device")

    with pytest.raises(AgentError, match=r"generation 3 was not taken: systemd-creds: no space"):
        pushed.take("3", app="3", put=fail)
    assert (pushed.current, stored(pushed), pushed.ground.timer.armed) == ("2", OLD, [])


def test_a_push_over_a_trial_goes_back_to_the_settled_secrets(pushed: Rig) -> None:
    pushed.take("3", net="3", put=put(pushed, NEW))
    pushed.take("4", SECOND, net="4", put=put(pushed, {"token": b"third"}))
    pushed.now += 60
    assert trial.revert(pushed.ground) == "4"
    assert (pushed.current, stored(pushed)) == ("2", OLD)


def test_a_push_without_secrets_over_a_trial_settles_those_of_the_trial(pushed: Rig) -> None:
    pushed.take("3", net="3", put=put(pushed, NEW))
    pushed.take("4", SECOND, app="4")
    assert (pushed.settled, stored(pushed), beside(pushed)) == ("4", NEW, ["agent", "config", "credstore"])
    pushed.boot()
    assert stored(pushed) == NEW


def test_a_reboot_ends_a_trial_with_its_secrets(pushed: Rig) -> None:
    pushed.take("3", net="3", put=put(pushed, NEW))
    assert pushed.boot() == "2"
    assert (stored(pushed), beside(pushed)) == (OLD, ["agent", "config", "credstore"])


@pytest.mark.parametrize("left", ["both", "store gone"])
def test_a_boot_that_was_cut_while_it_took_them_back_is_no_harm(pushed: Rig, left: str) -> None:
    pushed.take("3", net="3", put=put(pushed, NEW))
    store = pushed.ground.store
    gone = store.with_name("credstore.gone")
    gone.mkdir()
    (gone / "token").write_bytes(b"half removed")
    if left == "store gone":
        store.rename(gone / "moved")
        store.mkdir()  # as the boot makes it where there is none
    pushed.boot()
    assert (stored(pushed), beside(pushed)) == (OLD, ["agent", "config", "credstore"])


@pytest.mark.parametrize(
    "change", [{"app": "3"}, {"app": "3", "net": "3"}, {}], ids=["settled", "trial", "secret only"]
)
def test_a_power_cut_at_any_write_leaves_both_old_or_both_new(
    pushed: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, str]
) -> None:
    state, base = pushed.ground.store.parent, tmp_path / "base"
    old, new = {"app": "1", "net": "1"}, {"app": "1", "net": "1", **change}
    subprocess.run(["cp", "-a", state, base], check=True)
    seen, cuts = [], 0
    while True:
        subprocess.run(["rm", "-rf", state], check=True)
        subprocess.run(["cp", "-a", base, state], check=True)
        pushed.ground = pushed.ground._replace(boot_id="boot-1")
        with monkeypatch.context() as patched:
            Power(patched, cuts)
            is_cut = True
            with contextlib.suppress(PowerCut):
                if pushed.take("3", put=put(pushed, NEW), **change).waits_s:
                    trial.confirm(pushed.ground, FIRST, connected_at=200)
                is_cut = False
        if not is_cut:
            break
        pushed.boot()
        found = {name: (pushed.ground.config / "current" / name).read_text() for name in old}
        # A change of secrets alone is one step, whichever generation is the current one.
        allowed = [(old, OLD), (new, NEW)] if change else [(old, OLD), (old, NEW)]
        assert (found, stored(pushed)) in allowed, f"cut before write {cuts}"
        seen.append(stored(pushed) == NEW)
        assert beside(pushed) == ["agent", "config", "credstore"], f"cut before write {cuts}"
        cuts += 1
    assert cuts > 25
    assert seen == sorted(seen), "once new, it stays new"
    assert {False, True} == set(seen)
