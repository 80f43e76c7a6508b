"""The webhook: what it gets, how it knows who sends, and what happens when it does not take it."""

import hashlib
import hmac
import json

import pytest
from pydantic import ValidationError

from flash.drift.notify import Notice, Notifier
from qtrade.errors import NotFound
from qtrade.manifest.drift import Webhook
from tests.fakes.drift_reports import finding, report
from tests.fakes.examples import make_environment, make_settings
from tests.fakes.reporter import RecordingReporter
from tests.fakes.webhook_server import serve_webhook

pytestmark = pytest.mark.unit

SECRET = "webhook-secret-of-the-tests"


@pytest.fixture
def webhook(monkeypatch):
    monkeypatch.setenv("HOOK", SECRET)
    with serve_webhook() as served:
        yield served


def send(tmp_path, url: str, *, auth: str = "hmac", notice: Notice | None = None) -> tuple[bool, RecordingReporter]:
    rules = {"policy": "notify", "webhook": {"url": url, "auth": auth, "secret": "env:HOOK"}}
    environment, reporter = make_environment(monitor_set="none", drift=rules), RecordingReporter()
    with Notifier(make_settings(tmp_path), environment, reporter, sleep=lambda _: None) as notifier:
        return notifier.send(notice or Notice(report(finding()), "push cured 1, 0 left")), reporter


def test_a_webhook_gets_the_report_and_can_tell_who_sends(tmp_path, webhook) -> None:
    assert send(tmp_path, webhook.url)[0]
    ((headers, body),) = webhook.taken
    mac = hmac.new(SECRET.encode(), headers["X-Qtrade-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Qtrade-Signature"] == f"sha256={mac}"
    document = json.loads(body)
    assert (document["event"], document["done"]) == ("drift", "push cured 1, 0 left")
    assert document["report"]["findings"][0]["subject"] == "/etc/motd"
    assert SECRET not in body.decode()


def test_a_token_goes_as_bearer(tmp_path, webhook) -> None:
    assert send(tmp_path, webhook.url, auth="bearer", notice=Notice(report()))[0]
    ((headers, body),) = webhook.taken
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert json.loads(body)["event"] == "drift_cured"


def test_a_webhook_that_is_busy_is_asked_again(tmp_path, webhook) -> None:
    webhook.statuses = [503, 429]
    assert send(tmp_path, webhook.url)[0]
    assert len(webhook.taken) == 3


@pytest.mark.parametrize(("statuses", "asked"), [([401], 1), ([500, 500, 500], 3), ([302], 1)])
def test_one_that_does_not_take_it_is_warned_about_without_the_secret(tmp_path, webhook, statuses, asked) -> None:
    webhook.statuses = list(statuses)
    took, reporter = send(tmp_path, webhook.url)
    assert not took
    assert len(webhook.taken) == asked
    assert f"HTTP {statuses[-1]}" in reporter.lines[0]
    assert SECRET not in "".join(reporter.lines)


def test_one_that_is_not_there_is_warned_about(tmp_path, webhook) -> None:
    took, reporter = send(tmp_path, "http://127.0.0.1:9/drift")
    assert not took
    assert "ConnectError" in reporter.lines[0]


def test_a_secret_that_is_not_there_is_an_error(tmp_path, webhook, monkeypatch) -> None:
    monkeypatch.delenv("HOOK")
    with pytest.raises(NotFound, match=r"drift\.webhook\.secret: the environment variable HOOK"):
        send(tmp_path, webhook.url)


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "http://hooks.example.test/x", "auth": "bearer", "secret": "env:HOOK"},
        {"url": "https://user:pw@hooks.example.test", "secret": "env:HOOK"},
        {"url": "https://hooks.example.test", "secret": "the secret itself"},
    ],
    ids=["a token in the clear", "a password in the address", "a secret in the manifest"],
)
def test_a_webhook_that_gives_a_secret_away_is_refused(fields) -> None:
    with pytest.raises(ValidationError):
        Webhook.model_validate(fields)
