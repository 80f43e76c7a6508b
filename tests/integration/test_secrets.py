"""Secrets of a real ansible-vault."""

import subprocess
from pathlib import Path

import pytest

from flash.secrets import VAULT_PASSWORD, resolve
from qtrade.errors import BadInput, NotFound
from qtrade.process import beside_python
from qtrade.redaction import redact
from qtrade.settings import Settings
from tests.fakes.examples import make_environment, make_settings

pytestmark = pytest.mark.integration

VALUE = "pa:ss “wörd” of the test"


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    settings = make_settings(tmp_path)
    settings.keys_dir.mkdir(parents=True)
    password = settings.keys_dir / VAULT_PASSWORD
    password.write_text("of the vault\n")
    encrypt(settings.project / "secrets/development.yml", f'token: "{VALUE}"\nnumber: 7\n', password)
    return settings


def encrypt(path: Path, text: str, password: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    command = [beside_python("ansible-vault"), "encrypt", "--vault-password-file", password, path]
    subprocess.run(command, check=True, capture_output=True)


def test_a_value_comes_out_of_the_vault_and_is_hidden_from_then_on(settings) -> None:
    assert VALUE not in (settings.project / "secrets/development.yml").read_text()
    assert resolve(settings, make_environment(), "here", "vault:secrets/development.yml#token").decode() == VALUE
    assert redact(f"<{VALUE}>") == "<***>"
    assert resolve(settings, make_environment(), "here", "vault:secrets/development.yml#number") == b"7"


def test_a_missing_key_is_named(settings) -> None:
    with pytest.raises(NotFound, match="has no key ghost"):
        resolve(settings, make_environment(), "here", "vault:secrets/development.yml#ghost")


def test_another_password_is_an_error_that_shows_nothing(settings, tmp_path, monkeypatch) -> None:
    other = tmp_path / "other"
    other.write_text("wrong\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(other))
    with pytest.raises(BadInput, match="does not open") as caught:
        resolve(settings, make_environment(), "here", "vault:secrets/development.yml#token")
    assert VALUE not in caught.value.render()
