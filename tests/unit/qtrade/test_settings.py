"""Where qtrade finds its project and keeps its state."""

from pathlib import Path

import pytest

from qtrade.errors import BadInput
from qtrade.settings import load_settings

pytestmark = pytest.mark.unit

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch) -> None:
    for name in ("QTRADE_PROJECT", "QTRADE_STATE_DIR", "QTRADE_STORE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path) -> Path:
    for name in ("manifests", "ansible", "packer"):
        (tmp_path / "project" / name).mkdir(parents=True)
    return tmp_path / "project"


def test_the_project_is_found_from_a_folder_inside_it(monkeypatch, project) -> None:
    monkeypatch.chdir(project / "ansible")
    settings = load_settings()
    assert (settings.project, settings.state_dir, settings.store) == (
        project,
        project / ".state",
        project / ".state/store",
    )


def test_elsewhere_it_is_the_checkout_of_this_module(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings().project == CHECKOUT


def test_the_environment_comes_first(monkeypatch, tmp_path, project) -> None:
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("QTRADE_PROJECT", str(project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("QTRADE_STORE", str(tmp_path / "store"))
    settings = load_settings()
    assert (settings.project, settings.state_dir, settings.store) == (project, tmp_path / "state", tmp_path / "store")
    assert settings.tools_dir == tmp_path / "state/roots/tools"


def test_a_relative_state_directory_becomes_absolute(monkeypatch, project) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("QTRADE_STATE_DIR", "here")
    assert load_settings().state_dir == project / "here"


def test_a_folder_that_is_no_project_is_refused(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("QTRADE_PROJECT", str(tmp_path))
    with pytest.raises(BadInput, match="is not a qtrade project") as caught:
        load_settings()
    assert str(tmp_path) in caught.value.brief
    assert caught.value.details == "a project has the folders manifests, ansible, packer"
    assert "QTRADE_PROJECT" in caught.value.resolution
