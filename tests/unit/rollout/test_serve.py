"""The live page and the metrics, over HTTP."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from flash.rollout import control, serve, wiring
from flash.rollout.page import render_page
from flash.rollout.progress import Event
from flash.rollout.serve import RolloutServer
from flash.rollout.status import status_of
from tests.fakes.examples import make_settings
from tests.fakes.reporter import RecordingReporter
from tests.fakes.rollout.fleet import Fault, Fleet, Rules, make_members, make_plan
from tests.fakes.rollout.ports import sim_ports

pytestmark = pytest.mark.unit


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RolloutServer]:
    """A server of two environments; that of staging failed a rollout."""
    settings = make_settings(tmp_path)
    for name in ("staging", "production"):
        text = yaml.safe_dump({"schema_version": 1, "name": name})
        (settings.project / f"manifests/environments/{name}.yaml").write_text(text)
    members = make_members(20)
    plan = make_plan(members, max_unavailable={"rpc": 6, "validator": 2})
    fleet = Fleet(members, Rules(boot_s=0.01, fault=Fault()))
    monkeypatch.setattr(wiring, "ports_for", lambda *_: sim_ports(fleet, times=50))
    monkeypatch.setattr(serve, "_FRESH_S", 0.0)
    control.start(settings, plan, RecordingReporter())
    with RolloutServer(settings, "127.0.0.1", 0) as running:
        yield running


def get(server: RolloutServer, path: str) -> tuple[str, str]:
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return answer.read().decode(), answer.headers["Content-Security-Policy"]


def test_the_page_is_whole_without_a_script(server: RolloutServer) -> None:
    page, security = get(server, "/staging")
    assert "default-src 'none'" in security
    assert "demo 0.2.0 to staging" in page
    assert '<b id="phase" class="bad">FAILED</b>' in page
    assert "its service gives errors" in page
    assert page.count("<li class=") == 20
    assert 'http-equiv="refresh"' in page
    assert "src=" not in page
    part, _ = get(server, "/staging?part=main")
    assert part.startswith("<h1>")
    assert "<script" not in part


def test_other_pages(server: RolloutServer) -> None:
    assert "/production" in get(server, "/")[0]
    assert "There was no rollout yet" in get(server, "/production")[0]
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, "/../etc/passwd")
    caught.value.close()
    assert caught.value.code == 404


def test_metrics_are_those_of_prometheus(server: RolloutServer) -> None:
    families = {one.name: one for one in text_string_to_metric_families(get(server, "/metrics")[0])}
    hosts = {one.labels["state"]: one.value for one in families["qtrade_rollout_hosts"].samples}
    assert (hosts["RETURNED"], hosts["WAITING"], sum(hosts.values())) == (1, 19, 20)
    phase = [one.labels["phase"] for one in families["qtrade_rollout_phase"].samples if one.value]
    assert phase == ["FAILED"]
    assert {one.labels["environment"] for one in families["qtrade_rollout_wave"].samples} == {"staging"}


def test_what_hosts_say_is_escaped(tmp_path: Path) -> None:
    plan = make_plan(make_members(3))
    settings = make_settings(tmp_path)
    journal = control.new_journal(settings, "staging")
    progress = journal.begin(plan, 1.0)
    journal.write(progress, [(Event.STUCK, {"host": "host-0001", "why": '"><script>alert(1)</script>'})], 2.0)
    page = render_page("staging", status_of(control.Rollout(plan, progress, journal)), now=3.0)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
