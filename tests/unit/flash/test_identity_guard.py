"""A host that signs is neither flashed, nor rolled back, nor wiped, before somebody else has its identity."""

from types import SimpleNamespace

import pytest

from flash import maintenance
from flash import push as pushing
from flash.access import HeldAccess
from flash.drift import fix
from flash.identity.claims import Claims
from flash.identity.facts import Claim, ClaimState
from flash.identity.guard import SIGNER
from flash.inventory import load_host
from flash.push_plan import FileChange, PushPlan, UnitStep
from flash.rollback import rollback
from flash.run import flash, prepare
from qtrade.errors import Refused
from qtrade.manifest.driver import Door
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.store.history import Ending, History, Kind, Outcome
from tests.fakes.examples import make_settings
from tests.fakes.flash import FakeDoor
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

SAID = "rpc-1 has the staked identity"
ADDRESS = "Vote111111111111111111111111111111111111111"


@pytest.fixture
def settings(tmp_path) -> Settings:
    made = make_settings(tmp_path)
    write_project(made)
    publish_image(made)
    Claims(open_store(made).objects).begin(Claim(ADDRESS, 1, ClaimState.HELD, "rpc-1"))
    return made


def release(settings: Settings) -> None:
    claims = Claims(open_store(settings).objects)
    claims.advance(claims.read(ADDRESS), state=ClaimState.RELEASED)


def test_a_flash(settings) -> None:
    fake = FakeDoor()
    context, plan = prepare(settings, "rpc-1", "0.1.0", RecordingReporter(), door=Door.PXE)
    with pytest.raises(Refused, match=SAID):
        flash(context, plan, steps=fake.steps())
    assert (fake.passed, context.journal.entries) == ([], ())
    release(settings)
    flash(context, plan, steps=fake.steps())
    assert fake.passed


def test_a_rollback(settings) -> None:
    with pytest.raises(Refused, match=SAID):
        rollback(settings, "rpc-1", RecordingReporter())


def test_a_decommission(settings) -> None:
    context, _ = prepare(settings, "rpc-1", "0.1.0", RecordingReporter(), door=Door.PXE)
    with pytest.raises(Refused, match=SAID):
        maintenance.decommission(context, Door.PXE)


@pytest.mark.parametrize(("unit", "is_spared"), [(SIGNER, True), ("chrony.service", False)])
def test_a_push_that_restarts_the_validator(settings, monkeypatch, unit, is_spared) -> None:
    sent = []

    def send(prepared) -> pushing.PushResult:
        sent.append(prepared)
        return pushing.PushResult("rpc-1", "2", (), ())

    monkeypatch.setattr(pushing, "_push_to_older", send)
    host = load_host(settings, "rpc-1")
    access = HeldAccess(settings, host, open_store(settings), RecordingReporter(), 1, lambda: None)
    plan = PushPlan(
        "rpc-1", "0.1.0", "1", files=(FileChange("agave/validator.json", "changed"),), units=(UnitStep(unit, "reload"),)
    )
    prepared = pushing.Prepared(access, plan, {"generation": "1", "image": "i"}, None, {}, None)
    if is_spared:
        with pytest.raises(Refused, match=SAID):
            pushing.carry_out(prepared)
        assert sent == []
        release(settings)
    assert pushing.carry_out(prepared).generation == "2"
    assert sent == [prepared]
    # It is a deploy, and on record as one; the refused one changed nothing and is not.
    (past,) = History(open_store(settings).objects).read()
    assert (past.deploy.kind, past.deploy.version, past.deploy.image) == (Kind.PUSH, "0.1.0", "i")
    assert past.deploy.inputs == {
        "before": "1", "to": "", "files": ["agave/validator.json"], "secrets": [], "forget": [],
    }  # fmt: skip
    assert past.ending == Ending(Outcome.DONE, past.ending.at, version="0.1.0", image="i", generation="2")


def test_a_reboot_that_cures_drift(settings, monkeypatch) -> None:
    status = {"image": "i", "default": "i", "once": "", "boot_id": "b"}
    monkeypatch.setattr("flash.access.AgentLink", lambda _: SimpleNamespace(status=lambda: status))
    with pytest.raises(Refused, match=SAID):
        fix._reboot(settings, "rpc-1", RecordingReporter())
