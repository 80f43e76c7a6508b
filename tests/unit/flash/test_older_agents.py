"""Agents of older images: they refuse fields that they do not know, and get their jobs without them."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bake.run import load_recipe
from flash.agent import job as agent_job
from flash.agent.errors import AgentError
from flash.agent.report import sign_report
from flash.agent_link import AgentLink
from flash.jobs import _KNOWS_LEASE, JobBuilder, SignedJob
from flash.trust import VerifiedImage
from qtrade.errors import HostError
from qtrade.manifest import Image
from qtrade.manifest.image import ImageComponent
from qtrade.process import Completed
from qtrade.settings import Settings
from qtrade.trust.keyring import ensure_keyring
from tests.fakes.examples import make_host, make_image, make_settings, sha

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[3]


@dataclass
class OldAgent:
    """A host whose agent knows all fields but `unknown`; it parses a job as the agent does, and answers as that."""

    unknown: frozenset[str]
    host: str = "rpc-1"
    user: str = "deploy"
    got: list[dict[str, Any]] = field(default_factory=list)

    is_over = False

    def start(self, command: str, *, extra: Any = ()) -> "OldAgent":
        return self

    def finish(self, stdin: bytes, *, on_line: Callable[[str], None], timeout_s: float) -> tuple[int, str]:
        payload = base64.b64decode(json.loads(stdin)["payload"])
        self.got.append(json.loads(payload))
        known = agent_job._KNOWN
        agent_job._KNOWN = known - self.unknown
        try:
            parsed = agent_job.parse_job(payload)
        except AgentError as error:
            on_line(json.dumps({"event": "error", "error": error.as_json()}))
            return 1, ""
        finally:
            agent_job._KNOWN = known
        report = {"event": "report", "ok": True, "nonce": parsed.nonce, "error": None}
        on_line(json.dumps(sign_report(report, parsed.nonce)))
        return 0, ""


@pytest.fixture
def jobs(tmp_path) -> JobBuilder:
    return JobBuilder(make_host(), ensure_keyring(make_settings(tmp_path)), token=77)


def verified(image: Image) -> VerifiedImage:
    return VerifiedImage(image, image.to_json(), image.list_text(), b"s" * 64)


def test_an_agent_that_knows_all_gets_one_job_with_all(jobs) -> None:
    agent = OldAgent(frozenset())
    AgentLink(agent).run(jobs.simple("drain"))  # type: ignore[arg-type]
    assert [one["lease"] for one in agent.got] == [77]


@pytest.mark.parametrize("unknown", [{"lease"}, {"lease", "environment", "allow_older"}])
def test_an_older_agent_gets_the_job_without_what_it_refused(jobs, unknown) -> None:
    agent = OldAgent(frozenset(unknown))
    job = jobs.stage(verified(make_image()), source="http://h/s", bundle={})
    assert AgentLink(agent).run(job)["ok"]  # type: ignore[arg-type]
    first, second = agent.got
    assert set(first) - set(second) == unknown
    assert first["nonce"] != second["nonce"]
    assert {name: first[name] for name in ("kind", "image", "source")} == {
        name: second[name] for name in ("kind", "image", "source")
    }


def test_a_job_is_not_sent_without_what_it_needs(jobs) -> None:
    agent = OldAgent(frozenset({"bundle", "lease"}))
    with pytest.raises(HostError, match="the job holds unknown fields: bundle, lease"):
        AgentLink(agent).run(jobs.stage(verified(make_image()), source="http://h/s", bundle={}))  # type: ignore[arg-type]
    assert len(agent.got) == 1


def test_an_agent_without_the_verb_config_is_asked_for_its_status() -> None:
    said: list[str] = []

    class Target(OldAgent):
        def run(self, command: str, **_: Any) -> Completed:
            said.append(command.rsplit(maxsplit=1)[-1])
            if command.endswith("config"):
                return Completed((), 1, "", "sudo: a password is required\n")
            return Completed((), 0, '{"image": "i"}', "")

    assert AgentLink(Target(frozenset())).config() == {"image": "i"}  # type: ignore[arg-type]
    assert said == ["config", "status"]


def payload(job: SignedJob) -> dict[str, Any]:
    return json.loads(base64.b64decode(job.envelope["payload"]))


@pytest.mark.parametrize(("version", "told"), [("1", False), (str(_KNOWS_LEASE), True), ("10", True), ("x", False)])
def test_an_installer_is_told_of_the_lease_if_its_image_is_new_enough(jobs, version, told) -> None:
    agent = ImageComponent(name="qtrade-agent", version=version, sha256=sha("agent"), standin=False)
    image = make_image(components=(agent,))
    made = jobs.install(verified(image), source="http://h/s", report="http://h/s/report", bundle={})
    errand = jobs.errand("decommission", image=image, report="http://h/s/report")
    assert [one.get("lease") for one in (payload(made), payload(errand))] == [77 if told else None] * 2


@pytest.mark.parametrize("recipe", ["lab", "production"])
def test_the_recipes_say_of_their_agent_what_it_knows(recipe) -> None:
    """An agent that takes a field more has another version: without it, no controller would send that to its installer."""
    made = load_recipe(Settings(PROJECT, PROJECT / ".state", PROJECT / ".state/store"), recipe)
    assert made.components["qtrade-agent"].version == str(_KNOWS_LEASE)
    assert "lease" in agent_job._KNOWN
