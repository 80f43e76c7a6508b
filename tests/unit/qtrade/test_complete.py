"""What a Tab completes, from a project's files."""

import pytest

from qtrade.cli.complete import complete_environments, complete_hosts, complete_recipes, complete_versions
from tests.fakes.examples import make_settings
from tests.fakes.projects import publish_image, write_project

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made = make_settings(tmp_path)
    write_project(made)
    monkeypatch.setenv("QTRADE_PROJECT", str(made.project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(made.state_dir))
    return made


def test_hosts_of_manifests_and_of_the_lab(settings) -> None:
    lab = settings.state_dir / "lab/lab-1/host.yaml"
    lab.parent.mkdir(parents=True)
    lab.touch()
    assert complete_hosts("") == ["lab-1", "rpc-1"]
    assert complete_hosts("rp") == ["rpc-1"]


def test_environments_and_recipes(settings) -> None:
    (settings.project / "manifests/images").mkdir(exist_ok=True)
    (settings.project / "manifests/images/demo.yaml").touch()
    assert complete_environments("dev") == ["development"]
    assert complete_environments("x") == []
    assert complete_recipes("") == ["demo"]


def test_versions_come_newest_first(settings) -> None:
    for version in ("0.9.0", "0.10.0", "0.10.0-rc1"):
        publish_image(settings, version=version)
    assert complete_versions("") == ["0.10.0", "0.10.0-rc1", "0.9.0"]
    assert complete_versions("0.10") == ["0.10.0", "0.10.0-rc1"]


def test_no_tab_waits_for_a_network(settings, monkeypatch) -> None:
    monkeypatch.setenv("QTRADE_STORE", "s3://images/here")
    assert complete_versions("") == []


def test_outside_of_a_project_nothing_completes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("QTRADE_PROJECT", str(tmp_path))
    # Not that of `make`, in which a demo may have left a lab host and its image.
    monkeypatch.delenv("QTRADE_STATE_DIR", raising=False)
    assert (complete_hosts(""), complete_environments(""), complete_recipes(""), complete_versions("")) == ([],) * 4
