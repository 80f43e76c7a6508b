"""References to secrets: what they may say, and what is never shown."""

import pytest

from flash.secrets import resolve, resolve_secrets
from qtrade.errors import BadInput, NotFound
from qtrade.manifest import RoleInputs
from qtrade.redaction import redact
from qtrade.settings import Settings
from tests.fakes.examples import make_environment, make_host, make_image, make_settings
from tests.fakes.projects import write_project

pytestmark = pytest.mark.unit

WHERE = "host rpc-1: secrets.token"


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    settings = make_settings(tmp_path)
    write_project(settings)
    return settings


def image():
    return make_image(inputs={"app": RoleInputs.model_validate({"secrets": [{"name": "token"}]})})


def test_a_secret_of_the_environment_is_resolved_and_hidden_from_then_on(settings, monkeypatch) -> None:
    monkeypatch.setenv("APP_TOKEN", "s3cr3t-of-the-test")
    found = resolve_secrets(settings, make_host(secrets={"token": "env:APP_TOKEN"}), image())
    assert found == {"token": b"s3cr3t-of-the-test"}
    assert redact("login s3cr3t-of-the-test") == "login ***"


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(settings, monkeypatch, value) -> None:
    monkeypatch.delenv("APP_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("APP_TOKEN", value)
    with pytest.raises(NotFound, match=f"{WHERE}: the environment variable APP_TOKEN is not set"):
        resolve(settings, make_environment(), WHERE, "env:APP_TOKEN")


def test_a_secret_that_the_image_does_not_read_is_refused(settings) -> None:
    with pytest.raises(BadInput, match=r"secrets\.tokn is no secret that demo 0\.1\.0 reads") as caught:
        resolve_secrets(settings, make_host(secrets={"tokn": "env:X"}), image())
    assert caught.value.details == "known: token"


@pytest.mark.parametrize("reference", ["hunter2", "file:/etc/passwd", "", "ENV:X"])
def test_what_is_no_reference_is_refused(settings, reference) -> None:
    with pytest.raises(BadInput, match="no reference to a secret"):
        resolve(settings, make_environment(), WHERE, reference)


def test_a_secret_that_was_written_down_instead_of_a_reference_is_not_shown(settings) -> None:
    with pytest.raises(BadInput) as caught:
        resolve(settings, make_environment(), WHERE, "x" * 100)
    assert "xx" not in caught.value.render()


@pytest.mark.parametrize(
    "reference", ["vault:secrets/development.yml", "vault:secrets/development.yml#", "vault:#token", "vault:"]
)
def test_a_vault_reference_needs_a_file_and_a_key(settings, reference) -> None:
    with pytest.raises(BadInput, match="is followed by no FILE#KEY"):
        resolve(settings, make_environment(), WHERE, reference)


def test_a_vault_needs_its_password(settings) -> None:
    (settings.project / "secrets").mkdir()
    (settings.project / "secrets/development.yml").write_text("x")
    with pytest.raises(NotFound, match="no vault password") as caught:
        resolve(settings, make_environment(), WHERE, "vault:secrets/development.yml#token")
    assert "ANSIBLE_VAULT_PASSWORD_FILE" in caught.value.resolution
