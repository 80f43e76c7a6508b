"""What an environment keeps healthy while one of its hosts goes down: judged, asked of real leases, and heeded by a flash."""

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from flash import availability, run
from flash.availability import Demand, ask_host, demand_of, judge, require_available
from flash.states import State
from qtrade.errors import HostError, Refused
from qtrade.manifest import Environment
from qtrade.manifest.driver import Door
from qtrade.settings import Settings
from qtrade.store import LocalStore, Store
from qtrade.store.leases import Leases
from tests.fakes.examples import host_fields, make_environment, make_host, make_settings
from tests.fakes.flash import FakeDoor, Rig
from tests.fakes.projects import write_project

pytestmark = pytest.mark.unit

PRODUCTION = make_environment(name="production", minimum_healthy={"rpc": 2}, failover={"rpc-1": "val-1"})


@pytest.mark.parametrize(
    ("why_not", "missing"),
    [
        ({"rpc-2": "", "rpc-3": "", "val-1": ""}, []),
        ({"rpc-2": "", "rpc-3": "is held by somebody", "val-1": ""}, ["1 other rpc host(s) are healthy, 2 have to"]),
        ({"rpc-2": "", "rpc-3": "", "val-1": "its system is degraded"}, ["val-1, which takes over"]),
        ({"rpc-2": "", "rpc-3": ""}, ["val-1, which takes over"]),
        ({}, ["0 other rpc host(s) are healthy", "val-1, which takes over"]),
    ],
)
def test_what_is_missing_is_said(why_not: dict[str, str], missing: list[str]) -> None:
    said = list(judge(Demand("rpc-1", "rpc", 2, "val-1"), why_not, ("rpc-2", "rpc-3")))
    assert [one.startswith(expected) for one, expected in zip(said, missing, strict=True)] == [True] * len(missing)


def test_the_plan_says_what_has_to_stay_healthy() -> None:
    assert demand_of(make_host(), PRODUCTION).describe() == (
        "2 other healthy rpc host(s)",
        "val-1 healthy, which takes over",
    )
    assert demand_of(make_host(name="rpc-2", role="validator"), PRODUCTION).describe() == ()


@pytest.mark.parametrize(
    "fields", [{"minimum_healthy": {"rpc": 0}}, {"minimum_healthy": {"cat": 1}}, {"failover": {"rpc-1": "rpc-1"}}]
)
def test_a_demand_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Environment.model_validate({"schema_version": 1, "name": "production", **fields})


@pytest.fixture
def fleet(tmp_path: Any) -> Settings:
    """Four hosts of production and one of development, all with their manifests."""
    settings = make_settings(tmp_path)
    write_project(settings, host={"environment": "production"})
    others: tuple[dict[str, str], ...] = (
        {"name": "rpc-2"},
        {"name": "rpc-3"},
        {"name": "val-1", "role": "validator"},
        {"name": "dev-1", "environment": "development"},
    )
    for fields in others:
        path = settings.project / f"manifests/hosts/{fields['name']}.yaml"
        path.write_text(yaml.safe_dump(host_fields(**{"environment": "production", **fields})))
    return settings


@pytest.fixture
def store(fleet: Settings) -> Store:
    return LocalStore(fleet.store)


def require(settings: Settings, store: Store, asked: dict[str, str]) -> dict[str, Any]:
    """Ask whether rpc-1 may go down where each host of `asked` says why it does not count."""
    host = make_host(environment="production")
    return require_available(settings, store, host, PRODUCTION, ask=lambda one: asked[one.name])


def test_others_of_the_role_and_the_partner_are_asked_and_no_one_else(fleet, store) -> None:
    found = require(fleet, store, {"rpc-1": "", "rpc-2": "", "rpc-3": "", "val-1": ""})
    assert found == {"stays_healthy": ["rpc-2", "rpc-3", "val-1"]}


def test_a_host_that_leaves_too_few_is_refused_with_the_reason_of_each(fleet, store) -> None:
    with pytest.raises(Refused, match=r"1 other rpc host.* 2 have to stay so") as caught:
        require(fleet, store, {"rpc-1": "", "rpc-2": "its system is degraded", "rpc-3": "", "val-1": ""})
    assert caught.value.details == "  rpc-2: its system is degraded"
    assert "minimum_healthy" in caught.value.resolution


def test_a_host_that_is_ill_itself_takes_nothing_away(fleet, store) -> None:
    ill = dict.fromkeys(("rpc-1", "rpc-2", "rpc-3", "val-1"), "does not answer")
    assert require(fleet, store, ill) == {"stays_healthy": None}


def test_an_environment_without_demands_asks_nobody(fleet, store) -> None:
    def ask(_: Any) -> str:
        raise AssertionError("somebody was asked")

    assert require_available(fleet, store, make_host(), make_environment(), ask=ask) == {}


def test_a_host_that_somebody_works_on_does_not_count(fleet, store, monkeypatch) -> None:
    monkeypatch.setattr(availability, "_unhealthy", lambda *_: "")
    leases, host = Leases(store.objects), make_host(name="rpc-2")
    assert ask_host(fleet, store, host, own="rpc-1") == ""
    lease, _ = leases.take("rpc-2", holder="ann@desk", pid=1, where="/state")
    assert ask_host(fleet, store, host, own="rpc-1") == "is held by ann@desk"
    assert ask_host(fleet, store, host, own="rpc-2") == "", "its own lease is that of who asks"
    leases.release(lease)
    assert ask_host(fleet, store, host, own="rpc-1") == ""
    lease, _ = leases.take("rpc-2", holder="ann@desk", pid=1, where="/state")
    leases.release(lease, quarantine="WRITING: the disk is gone")
    assert ask_host(fleet, store, host, own="rpc-1") == "is in quarantine: WRITING: the disk is gone"


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        ({}, "running\n", ""),
        ({"default": "other"}, "running\n", "runs an image on trial"),
        ({"state": "volatile"}, "running\n", "runs without its state partition"),
        ({}, "degraded\n", "its system is degraded"),
        ({}, "", "its system is silent"),
        ({}, "running\nqtrade-agave-ready says not ready\n", "qtrade-agave-ready says not ready"),
    ],
)
def test_a_host_is_asked_itself(fleet, store, monkeypatch, status, said, reason) -> None:
    answer = {"image": "a", "default": "a", "state": "persistent", **status}
    monkeypatch.setattr(availability.AgentLink, "status", lambda _, **__: answer)
    target = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(stdout=said))
    monkeypatch.setattr(availability, "target_for", lambda *_, **__: target)
    assert ask_host(fleet, store, make_host(name="rpc-2"), own="rpc-1") == reason


def test_a_host_that_does_not_answer_does_not_count(fleet, store, monkeypatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise HostError("rpc-2 cannot be reached")

    monkeypatch.setattr(availability, "target_for", fail)
    assert ask_host(fleet, store, make_host(name="rpc-2"), own="rpc-1") == "rpc-2 cannot be reached"


@pytest.mark.parametrize("door", [Door.IN_PLACE, Door.PXE])
@pytest.mark.parametrize("refused", [State.PREFLIGHT, State.DRAINED])
def test_a_flash_stops_before_its_host_goes_down(tmp_path, monkeypatch, door, refused) -> None:
    rig, fake = Rig(make_settings(tmp_path)), FakeDoor()
    asked: list[int] = []

    def keep(_: Any) -> dict[str, Any]:
        asked.append(len(fake.passed))
        if len(asked) == (1 if refused is State.PREFLIGHT else 2):
            raise Refused("rpc-1 may not go down")
        return {"stays_healthy": ["rpc-2"]}

    monkeypatch.setattr(run, "_keep_available", keep)
    with pytest.raises(Refused, match="may not go down"):
        rig.flash(door, fake)
    assert State.DRAINED not in fake.passed
    assert rig.states()[-1] == "FAILED_SAFE"
