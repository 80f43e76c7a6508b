"""What `qtrade verify` proves: each check by the host's own programs, and what it says where one fails or does not apply."""

import hashlib
import json
from typing import Any

import pytest

from flash import hardware, health, readiness, verify
from flash.verify import CheckState, count_points
from qtrade.cli import drift as command
from qtrade.errors import HostError
from qtrade.manifest import RoleInputs
from qtrade.process import Completed
from qtrade.specs import SpecResult
from tests.fakes.cli import Cli
from tests.fakes.examples import blob_bytes, make_image, make_settings
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

TELEMETRY = """\
# HELP otelcol_receiver_accepted_metric_points Number of metric points successfully pushed into the pipeline.
otelcol_receiver_accepted_metric_points{receiver="prometheus",transport="http"} 40
otelcol_receiver_accepted_metric_points_total{receiver="otlp"} 2
otelcol_exporter_sent_metric_points{exporter="datadog"} 41
otelcol_exporter_send_failed_metric_points{exporter="datadog"} 1
otelcol_process_uptime{service_name="x"} 3
"""
READY = {"ready": True, "reasons": [], "lag": 2}
STREAM = {"ok": True, "slots": [7, 8, 9], "has_token": True, "status": None, "message": ""}


class Target:
    """A host that answers each program."""

    host = "rpc-1"

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {
            "is-system-running": (0, "running\n"),
            "list-units": (0, ""),
            "qtrade-agave-ready": (0, f"b-1\n\n{json.dumps(READY)}\n"),
            "stream.py": (0, json.dumps(STREAM)),
            "telemetry": (0, TELEMETRY),
            "getconf": (0, "8\n65842312\n1000\nsse2\n"),
        }

    def run(self, text: str, **_: Any) -> Completed:
        code, out = next(answer for word, answer in reversed(self.answers.items()) if word in text)
        return Completed((), code, out, "")


@pytest.fixture
def target(tmp_path, monkeypatch) -> Target:
    settings, made = make_settings(tmp_path), Target()
    write_project(
        settings, host={"secrets": {"datadog_api_key": "env:KEY"}}, environment={"hardware": {"rpc": {"threads": 8}}}
    )
    app = make_image().layers[1]
    layers = [
        app.model_copy(
            update={"role": role, "digest": hashlib.sha256(blob_bytes(role)).hexdigest(), "size": len(blob_bytes(role))}
        )
        for role in ("agave", "geyser", "datadog")
    ]
    declared = {"agave_catch_up_deadline_s": {"type": "int", "default": 900, "description": "-"}}
    image = publish_image(
        settings,
        layers=(*make_image().layers, *layers),
        inputs={"agave": RoleInputs.model_validate({"values": declared})},
    )
    status = {"version": "0.1.0", "image": image.id, "state": "persistent", "verified": "verity"}
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    monkeypatch.setattr(verify.AgentLink, "status", lambda _, **__: made.status)
    made.status, made.settings = status, settings
    made.specs = SpecResult(200, (), (("bare_metal", "test_watchdog", "no watchdog"),))
    for module in (verify, hardware, health, readiness):
        monkeypatch.setattr(module, "target_for", lambda *_, **__: made)
    monkeypatch.setattr(health, "run_over_ssh", lambda *_: made.specs)
    monkeypatch.setattr(verify, "_SETTLE_S", 0.1)
    return made


def run(target: Target) -> dict[str, tuple[str, str]]:
    result = verify.verify(target.settings, "rpc-1", RecordingReporter())
    return {check.name: (check.state, check.told) for check in result.checks}


def test_a_host_that_works_is_proven(target) -> None:
    assert run(target) == {
        "image": ("proven", "demo 0.1.0, checked by verity"),
        "hardware": ("proven", "8 threads, 62 GiB, link 1000 Mbit/s"),
        "services": ("proven", "system running, no unit has failed"),
        "readiness": ("proven", "qtrade-agave-ready: ready, lag 2"),
        "geyser": ("proven", "Subscribe with the host's token: slots 7 to 9"),
        "monitoring": ("proven", "the Collector took 42 metric points and sent 41"),
        "specs": ("proven", "200 specs hold, 1 skipped"),
    }


@pytest.mark.parametrize(
    ("check", "program", "code", "out", "said"),
    [
        ("hardware", "getconf", 0, "4\n65842312\n1000\nsse2\n", "4 threads, 8 are asked for"),
        ("services", "list-units", 0, "chrony.service loaded failed failed x\n", "chrony.service"),
        ("readiness", "qtrade-agave-ready", 1, 'b\n\n{"ready": false, "reasons": ["6000 slots behind"]}\n', "6000 slots behind"),
        ("geyser", "stream.py", 2, '{"ok": false, "status": "16", "message": "no token"}', "status 16: no token"),
        ("geyser", "stream.py", 1, "", "gave no answer"),
        ("monitoring", "telemetry", 1, "", "do not answer"),
        ("monitoring", "telemetry", 0, "", "no metric of this host"),
        ("monitoring", "telemetry", 0, TELEMETRY.replace("exporter_sent", "other"), "has sent none"),
    ],
)  # fmt: skip
def test_what_does_not_hold_fails_its_check_and_no_other(target, check, program, code, out, said) -> None:
    target.answers[program] = (code, out)
    found = run(target)
    assert found[check][0] is CheckState.FAILED
    assert said in found[check][1]
    assert {state for name, (state, _) in found.items() if name != check} == {CheckState.PROVEN}


def test_specs_that_fail_are_named(target) -> None:
    target.specs = SpecResult(200, (("postgres", "test_port", "closed"),), ())
    state, told = run(target)["specs"]
    assert (state, "postgres: test_port: closed" in told) == (CheckState.FAILED, True)


def test_another_image_than_its_version_names_fails(target) -> None:
    target.status["state"] = "volatile"
    assert run(target)["image"][0] is CheckState.FAILED


def test_what_does_not_apply_is_skipped_and_says_why(target) -> None:
    write_project(target.settings)
    assert run(target)["monitoring"] == (
        "skipped",
        "the host's manifest names no secret datadog_api_key: nothing is sent",
    )


def test_what_is_required_fails_where_it_would_be_skipped(target, monkeypatch, capsys) -> None:
    write_project(target.settings)
    cli = Cli(monkeypatch, capsys)
    monkeypatch.setattr(command, "console", lambda _: RecordingReporter())
    assert cli("verify", "--host", "rpc-1")[0] == 0
    code, out, err = cli("verify", "--host", "rpc-1", "--require", "monitoring", "--require", "specs")
    assert code == HostError.exit_code
    assert (
        "monitoring failed   required, but the host's manifest names no secret datadog_api_key: nothing is sent" in out
    )
    assert "To mend it: give the host what monitoring needs, or do not require it" in err
    assert "there is no check metrics" in cli("verify", "--host", "rpc-1", "--require", "metrics")[2]


def test_the_command_is_a_gate(target, monkeypatch, capsys) -> None:
    cli = Cli(monkeypatch, capsys)
    monkeypatch.setattr(command, "console", lambda _: RecordingReporter())
    code, out, _ = cli("verify", "--host", "rpc-1", "--json")
    assert (code, [one["state"] for one in json.loads(out)["checks"]]) == (0, ["proven"] * 7)
    target.answers["stream.py"] = (1, "")
    code, out, err = cli("verify", "--host", "rpc-1")
    assert code == HostError.exit_code
    assert "1 of 7 checks fail: geyser" in err
    assert "geyser     failed" in out


def test_counters_are_summed_over_receivers_and_exporters() -> None:
    assert count_points(TELEMETRY) == {"receiver_accepted": 42, "exporter_sent": 41, "exporter_send_failed": 1}
