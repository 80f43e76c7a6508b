"""`qtrade monitors`: keys from the environment, plan as data, confirmation."""

import io
import shutil
import sys

import pytest

from qtrade.errors import NotFound, UsageError
from qtrade.manifest.image import ImageComponent
from tests.fakes.cli import Cli
from tests.fakes.datadog_server import API_KEY, APP_KEY
from tests.fakes.examples import make_settings, sha
from tests.fakes.monitors import PROJECT
from tests.fakes.projects import publish_image

pytestmark = pytest.mark.unit
ENV = ("--env", "staging", "--recipe", "demo")


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys, datadog) -> Cli:
    settings = make_settings(tmp_path)
    for folder in ("monitoring", "environments"):
        shutil.copytree(PROJECT / "manifests" / folder, settings.project / "manifests" / folder, dirs_exist_ok=True)
    part = ImageComponent(name="geyser", version="15.1.2+solana.4.2.0", sha256=sha("x"), standin=True)
    publish_image(settings, components=(part,))
    given = {"QTRADE_PROJECT": settings.project, "QTRADE_STATE_DIR": settings.state_dir, "QTRADE_STORE": settings.store}
    given |= {"QTRADE_DATADOG_URL": datadog.url, "DD_API_KEY": API_KEY, "DD_APP_KEY": APP_KEY}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    return Cli(monkeypatch, capsys)


def test_plan_is_data_and_changes_nothing(cli, datadog) -> None:
    document = cli.json("monitors", "plan", *ENV)
    assert (document["environment"], document["version"]) == ("staging", "demo 0.1.0")
    assert {change["action"] for change in document["changes"]} == {"create"}
    assert API_KEY not in str(document)
    assert datadog.changes() == []


def test_dry_run_is_the_plan(cli, datadog) -> None:
    code, out, _ = cli("monitors", "apply", *ENV, "--dry-run")
    assert code == 0
    assert "  create  monitor validator-slot-lag " in out
    assert datadog.changes() == []


def test_apply_asks_and_then_does_it_once(cli, datadog, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, err = cli("monitors", "apply", *ENV)
    assert code == UsageError.exit_code
    assert "add --yes" in err
    assert datadog.changes() == []
    made = cli.json("monitors", "apply", *ENV, "--yes")
    assert made["created"] == len(datadog.monitors) + len(datadog.dashboards) > 10
    assert cli("monitors", "apply", *ENV)[:2] == (0, f"0 created, 0 updated, 0 deleted, {made['created']} kept\n")


def test_without_keys_it_says_which(cli, monkeypatch) -> None:
    monkeypatch.delenv("DD_APP_KEY")
    code, _, err = cli("monitors", "plan", *ENV)
    assert code == NotFound.exit_code
    assert "environment staging: monitoring.app_key: the environment variable DD_APP_KEY is not set" in err


def test_keys_come_from_a_vault_too(cli, tmp_path) -> None:
    staging = tmp_path / "project/manifests/environments/staging.yaml"
    staging.write_text(staging.read_text() + 'monitoring: {app_key: "vault:secrets/staging.yml#datadog_app_key"}\n')
    code, _, err = cli("monitors", "plan", *ENV)
    assert code == NotFound.exit_code
    assert "monitoring.app_key" in err
    assert "secrets/staging.yml is no vault file" in err


def test_an_unknown_environment_is_named(cli) -> None:
    code, _, err = cli("monitors", "plan", "--env", "prod")
    assert code == NotFound.exit_code
    assert "development, production, staging" in err


def test_without_the_extra_it_says_what_to_install(cli, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datadog_api_client", None)
    code, _, err = cli("monitors", "plan", *ENV)
    assert code == UsageError.exit_code
    assert "qtrade[datadog]" in err
