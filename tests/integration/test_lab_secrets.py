"""The lab's vault: made once, completed later."""

import pytest
import yaml

from flash.lab.setup import ensure_secrets
from flash.secrets import VAULT_PASSWORD
from qtrade import process
from tests.fakes.examples import make_settings

pytestmark = pytest.mark.integration


def test_an_older_vault_gets_what_it_lacks_and_keeps_the_rest(tmp_path) -> None:
    settings = make_settings(tmp_path)
    settings.keys_dir.mkdir(parents=True)
    path, password = settings.keys_dir / "lab-secrets.yml", settings.keys_dir / VAULT_PASSWORD
    password.write_text("of the vault\n")
    tool = [process.beside_python("ansible-vault")]
    options = ["--vault-password-file", str(password)]
    process.run([*tool, "encrypt", *options, "--output", str(path), "-"], stdin=b"client_token: kept\n")
    assert ensure_secrets(settings) == path
    first = yaml.safe_load(process.run([*tool, "view", *options, path]).stdout)
    assert first["client_token"] == "kept"
    assert set(first) == {"client_token", "datadog_api_key", "geyser_x_token"}
    assert "kept" not in path.read_text()
    before = path.read_bytes()
    ensure_secrets(settings)
    assert path.read_bytes() == before
