"""Confirmations over a new connection, with a host that answers as it is told."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from flash import confirmation
from flash.access import HeldAccess
from flash.confirmation import send_and_confirm
from flash.jobs import AgentFailed, SignedJob
from qtrade.errors import HostError
from qtrade.store import open_store
from tests.fakes.examples import make_host, make_settings
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

GONE = HostError("rpc-1 cannot be reached over SSH", details="Connection refused")
ON_TRIAL = {"waits_s": 3, "generation": "2"}


@dataclass
class Link:
    """Gives the next of `answers` for each job; an error is raised."""

    answers: list[dict[str, Any] | HostError]
    status_now: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def run(self, job: SignedJob, **_: Any) -> dict[str, Any]:
        fields = json.loads(base64.b64decode(job.envelope["payload"]))
        self.log.append(fields["kind"])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, HostError):
            raise answer
        return answer

    def confirm(self, job: SignedJob, **_: Any) -> dict[str, Any]:
        return self.run(job)

    def disconnect(self) -> None:
        self.log.append("disconnect")

    def status(self, **_: Any) -> dict[str, Any]:
        return self.status_now

    def wait_for_status(self, accept: Any, **_: Any) -> dict[str, Any]:
        if not self.status_now or not accept(self.status_now):
            raise HostError("it did not happen", details="last seen: nothing")
        return self.status_now


@dataclass
class Access(HeldAccess):
    fake: Link | None = None

    @property
    def link(self) -> Link:  # type: ignore[override]
        assert self.fake is not None
        return self.fake


@pytest.fixture
def send(tmp_path, monkeypatch):
    monkeypatch.setattr(confirmation, "_KNOCK_S", 0.01)
    settings = make_settings(tmp_path)

    def run(link: Link, within_s: float = 0.2) -> dict[str, Any]:
        parts = (settings, make_host(), open_store(settings), RecordingReporter(), 1, lambda: None)
        access = Access(*parts, fake=link)
        return send_and_confirm(access, access.jobs.apply({}, confirm_within_s=3), "2", within_s=within_s)

    return run


def test_what_is_settled_needs_no_second_connection(send) -> None:
    link = Link([{"waits_s": 0}])
    assert send(link) == {"waits_s": 0}
    assert link.log == ["apply"]


def test_a_trial_is_confirmed_after_the_old_connection_has_ended(send) -> None:
    link = Link([ON_TRIAL, {}])
    assert send(link) == ON_TRIAL
    assert link.log == ["apply", "disconnect", "confirm"]


def test_a_firewall_that_takes_no_new_connection_for_a_while_is_waited_for(send) -> None:
    link = Link([ON_TRIAL, GONE, GONE, {}])
    send(link)
    assert link.log == ["apply", "disconnect", "confirm", "confirm", "confirm"]


def test_a_host_that_is_cut_off_is_seen_to_come_back(send) -> None:
    link = Link([{**ON_TRIAL, "waits_s": 0.05}, GONE], {"generation": "1", "trial": ""})
    with pytest.raises(
        HostError, match="could not be reached with generation 2, and took it back: generation 1"
    ) as caught:
        send(link)
    assert "Connection refused" in caught.value.details


def test_a_host_that_stays_away_is_said_to_come_back_by_itself(send) -> None:
    with pytest.raises(HostError, match="it goes back by itself, which was not seen yet"):
        send(Link([{**ON_TRIAL, "waits_s": 0.05}, GONE]))


def test_a_report_that_got_lost_with_its_connection_is_made_up_for_by_a_confirmation(send) -> None:
    link = Link([GONE, {}])
    assert send(link)["generation"] == "2"
    assert link.log == ["apply", "disconnect", "confirm"]


def test_a_report_that_got_lost_of_what_was_settled_at_once(send) -> None:
    over = AgentFailed("nothing waits", code="trial-over")
    status = {"image": "i", "generation": "2", "generations": {"i": "2"}}
    assert send(Link([GONE, over], status))["generation"] == "2"


def test_a_confirmation_that_gets_through_when_the_host_has_gone_back_already(send) -> None:
    over = AgentFailed("nothing waits", code="trial-over")
    reverted = {"generation": "2", "why": "nobody confirmed it in time"}
    status = {"image": "i", "generation": "1", "generations": {"i": "1"}, "trial": "", "reverted": reverted}
    with pytest.raises(HostError, match="took it back: generation 1 is current") as caught:
        send(Link([ON_TRIAL, GONE, over], status))
    assert "the host says of generation 2: nobody confirmed it in time" in caught.value.details


def test_what_the_agent_refuses_is_not_tried_again(send) -> None:
    link = Link([AgentFailed("not taken", code="config-rejected")])
    with pytest.raises(AgentFailed, match="not taken"):
        send(link)
    assert link.log == ["apply"]
