"""Where qtrade finds its project and keeps its state."""

from pathlib import Path

import pytest

from qtrade.errors import BadInput
from qtrade.settings import S3Address, Settings, load_settings

pytestmark = pytest.mark.unit

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch) -> None:
    for name in ("PROJECT", "STATE_DIR", "STORE", "S3_ENDPOINT", "S3_CHECKSUMS"):
        monkeypatch.delenv(f"QTRADE_{name}", raising=False)


@pytest.fixture
def project(tmp_path) -> Path:
    for name in ("manifests/hosts", "ansible"):
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


def test_any_folder_may_be_named_as_the_project_but_no_file(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("QTRADE_PROJECT", str(tmp_path))
    assert load_settings().project == tmp_path
    monkeypatch.setenv("QTRADE_PROJECT", str(tmp_path / "ghost"))
    with pytest.raises(BadInput, match=r"QTRADE_PROJECT is .*ghost', which is no folder") as caught:
        load_settings()
    assert "manifests/hosts" in caught.value.details
    assert "QTRADE_PROJECT" in caught.value.resolution


def test_what_a_project_lacks_comes_with_qtrade(tmp_path) -> None:
    """Single files of manifests/, but ansible/ and packer/ as wholes: half a set of roles is no set."""
    project, product = tmp_path / "project", tmp_path / "product"
    for root, name in (
        (project, "manifests/images/mine.yaml"), (project, "manifests/images/lab.yaml"), (project, "ansible/roles/own/x"),
        (product, "manifests/images/lab.yaml"), (product, "manifests/ids.yaml"), (product, "ansible/ansible.cfg"), (product, "packer/x"),
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    settings = Settings(project, tmp_path, tmp_path, product=product)
    assert settings.find("manifests/images/lab.yaml") == project / "manifests/images/lab.yaml"
    assert settings.find("manifests/ids.yaml") == product / "manifests/ids.yaml"
    assert (settings.find("packer/x"), settings.ansible) == (product / "packer/x", project / "ansible")
    assert settings.find("ansible/ansible.cfg") == project / "ansible/ansible.cfg"
    assert settings.find("flash/agent") == CHECKOUT / "flash/agent"
    assert settings.find("manifests/images/ghost.yaml") == project / "manifests/images/ghost.yaml"
    assert settings.find_all("manifests/images", "*.yaml") == (
        project / "manifests/images/lab.yaml",
        project / "manifests/images/mine.yaml",
    )
    alone = Settings(project, tmp_path, tmp_path)
    assert alone.find("manifests/ids.yaml") == project / "manifests/ids.yaml"


@pytest.mark.parametrize(
    ("url", "address", "text"),
    [
        ("s3://images", S3Address("images"), "s3://images"),
        ("s3://images/", S3Address("images"), "s3://images"),
        ("s3://my.images/prod/eu/", S3Address("my.images", "prod/eu"), "s3://my.images/prod/eu"),
    ],
)
def test_a_store_may_be_a_bucket(monkeypatch, project, url, address, text) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("QTRADE_STORE", url)
    assert load_settings().store == address
    assert str(load_settings().store) == text


def test_a_bucket_may_be_elsewhere_and_want_checksums(monkeypatch, project) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("QTRADE_STORE", "s3://images")
    monkeypatch.setenv("QTRADE_S3_ENDPOINT", "https://s3.example.org")
    monkeypatch.setenv("QTRADE_S3_CHECKSUMS", "when_supported")
    assert load_settings().store == S3Address("images", "", "https://s3.example.org", "when_supported")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORE", "s3://"),
        ("STORE", "s3://Images"),
        ("STORE", "http://images"),
        ("STORE", "s3://images/a b"),
        ("S3_ENDPOINT", "s3.example.org"),
        ("S3_CHECKSUMS", "never"),
    ],
)
def test_a_bad_address_is_named_with_its_variable(monkeypatch, project, name, value) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("QTRADE_STORE", "s3://images")
    monkeypatch.setenv(f"QTRADE_{name}", value)
    with pytest.raises(BadInput, match=f"QTRADE_{name} is '{value}'"):
        load_settings()


@pytest.mark.parametrize("character", [",", ":", " ", "'"])
def test_a_state_directory_that_mounts_cannot_name_is_refused(monkeypatch, project, character) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("QTRADE_STATE_DIR", f"/var/lib/q{character}trade")
    with pytest.raises(BadInput, match=r"has .* in its path") as caught:
        load_settings()
    assert "QTRADE_STATE_DIR" in caught.value.resolution
