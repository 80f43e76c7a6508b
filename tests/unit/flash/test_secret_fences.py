"""What references of one environment may lead to, and what a check says of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from flash.secrets.check import SecretState, check_environment, check_host, exit_code, render_rows
from flash.secrets.references import parse_reference
from flash.secrets.resolve import resolve
from qtrade.errors import BadInput, NotFound, Refused
from qtrade.manifest import Environment, RoleInputs
from qtrade.process import beside_python, run
from qtrade.settings import Settings
from tests.fakes.cli import Cli
from tests.fakes.examples import host_fields, make_environment, make_settings
from tests.fakes.projects import publish_image, write_project

pytestmark = pytest.mark.unit

WHERE = "manifests/hosts/rpc-1.yaml: secrets.token"
KV = {"address": "https://vault.example.org:8200", "prefix": "qtrade/development", "auth": {"method": "token"}}
SECRET = "value-that-nobody-may-see"


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    settings = make_settings(tmp_path)
    settings.keys_dir.mkdir(parents=True)
    return settings


def fence(settings: Settings, reference: str, **secrets: object) -> str:
    return str(parse_reference(settings, make_environment(secrets=secrets), WHERE, reference))


@pytest.mark.parametrize(
    "reference",
    [
        "vault:secrets/development.yml#k",
        "vault:secrets/development/rpc-1.yml#k",
        "kv:rpc-1/app#k",
        "kv:app@3#k",
        "env:DEV_K",
    ],
)
def test_what_is_its_own_is_taken(settings, reference) -> None:
    assert fence(settings, reference, kv=KV, env_prefix="DEV_").endswith("K" if "env" in reference else "#k")


@pytest.mark.parametrize(
    "file",
    [
        "secrets/production.yml",
        "secrets/development/../production.yml",
        "../elsewhere.yml",
        "/etc/passwd",
        "secrets/development-old.yml",
        "secrets/development/link.yml",
    ],
)
def test_another_environments_vault_file_is_refused_with_file_field_and_cure(settings, file) -> None:
    (settings.project / "secrets/development").mkdir(parents=True)
    (settings.project / "secrets/production.yml").write_text("x")
    (settings.project / "secrets/development/link.yml").symlink_to("../production.yml")
    with pytest.raises(Refused) as caught:
        fence(settings, f"vault:{file}#token")
    assert caught.value.brief == f"{WHERE}: {file} is no vault file of environment development"
    assert "secrets/development.yml" in caught.value.details
    assert "manifests/environments/development.yaml" in caught.value.resolution


def test_the_labs_vault_is_for_development_only(settings) -> None:
    reference = f"vault:{settings.keys_dir}/lab-secrets.yml#client_token"
    assert fence(settings, reference) == reference
    staging = Environment.model_validate({"schema_version": 1, "name": "staging"})
    with pytest.raises(Refused, match="is no vault file of environment staging"):
        parse_reference(settings, staging, WHERE, reference)


@pytest.mark.parametrize("path", ["../production/app#k", "/secret/data/x#k", "a/../../production#k"])
def test_a_path_that_leaves_the_prefix_is_refused(settings, path) -> None:
    with pytest.raises(Refused, match="leaves secret/qtrade/development"):
        fence(settings, f"kv:{path}", kv=KV)


@pytest.mark.parametrize("path", ["app", "app#", "#k", "app@0#k", "app@x#k", "a//b#k", "a%2f..%2fb#k", "a?x#k"])
def test_what_is_no_path_is_refused(settings, path) -> None:
    with pytest.raises(BadInput, match=r"followed by no PATH#FIELD|leaves"):
        fence(settings, f"kv:{path}", kv=KV)


def test_without_a_vault_the_environments_manifest_is_named(settings) -> None:
    with pytest.raises(BadInput, match="environment development names none") as caught:
        fence(settings, "kv:app#k")
    assert "secrets.kv" in caught.value.resolution


def test_a_variable_of_another_environment_is_refused(settings) -> None:
    with pytest.raises(Refused, match="variables of development begin with DEV_, and PROD_K does not"):
        fence(settings, "env:PROD_K", env_prefix="DEV_")


@pytest.mark.parametrize("address", ["http://vault.example.org:8200", "http://127.0.0.1.example.org"])
def test_a_token_is_not_sent_in_the_clear(address) -> None:
    with pytest.raises(ValueError, match="https only"):
        make_environment(secrets={"kv": {**KV, "address": address}})


@pytest.fixture
def project(settings, monkeypatch) -> Settings:
    """Host rpc-1 of development with a vault file, beside staging and its own."""
    for name, folder in (("PROJECT", settings.project), ("STATE_DIR", settings.state_dir), ("STORE", settings.store)):
        monkeypatch.setenv(f"QTRADE_{name}", str(folder))
    for name in ("DD_API_KEY", "DD_APP_KEY"):
        monkeypatch.setenv(name, "value-of-datadog")
    write_project(settings, host={"driver": {"kind": "ssh"}, "doors": ["in_place"], "netboot": None})
    publish_image(
        settings, inputs={"app": RoleInputs.model_validate({"secrets": [{"name": "token"}, {"name": "other"}]})}
    )
    write_vault(settings, "development", token=SECRET)
    refer(settings, token="vault:secrets/development.yml#token")
    return settings


def write_vault(settings: Settings, name: str, **values: str) -> None:
    password = settings.keys_dir / f"vault-password-{name}"
    password.write_text(f"of {name}\n")
    path = settings.project / f"secrets/{name}.yml"
    path.parent.mkdir(exist_ok=True)
    run(
        [beside_python("ansible-vault"), "encrypt", "--vault-password-file", password, "--output", path, "-"],
        stdin=yaml.safe_dump(values).encode(),
    )


def refer(settings: Settings, **secrets: str) -> None:
    fields = host_fields(secrets=secrets, driver={"kind": "ssh"}, doors=["in_place"], netboot=None)
    (settings.project / "manifests/hosts/rpc-1.yaml").write_text(yaml.safe_dump(fields))


def test_each_environment_has_a_password_of_its_own(project) -> None:
    write_vault(project, "staging", token="of-staging")
    staging = Environment.model_validate({"schema_version": 1, "name": "staging"})
    assert resolve(project, staging, WHERE, "vault:secrets/staging.yml#token") == b"of-staging"
    assert resolve(project, make_environment(), WHERE, "vault:secrets/development.yml#token") == SECRET.encode()


def test_a_check_tells_how_each_stands_and_shows_no_value(project, monkeypatch, capsys) -> None:
    soon = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
    write_vault(
        project, "development", token=SECRET, old=SECRET, old_expires="2026-01-01", soon=SECRET, soon_expires=soon, spare=SECRET
    )  # fmt: skip
    refer(
        project, token="vault:secrets/development.yml#token", old="vault:secrets/development.yml#old",
        soon="vault:secrets/development.yml#soon", gone="vault:secrets/development.yml#gone", other="vault:secrets/staging.yml#token",
        pasted=SECRET,
    )  # fmt: skip
    rows = check_environment(project, "development")
    found = {(row.where.rpartition(": ")[2], str(row.state)) for row in rows}
    assert found == {
        ("secrets.token", "good"), ("secrets.old", "expired"), ("secrets.soon", "expires"), ("secrets.gone", "broken"),
        ("secrets.other", "broken"), ("secrets.pasted", "broken"), ("spare", "unused"), ("monitoring.api_key", "good"),
        ("monitoring.app_key", "good"), ("secrets.old", "unused"), ("secrets.soon", "unused"), ("secrets.gone", "unused"),
        ("secrets.pasted", "unused"),
    }  # fmt: skip
    assert SECRET not in render_rows(rows)
    code, out, err = Cli(monkeypatch, capsys)("secrets", "check", "--env", "development")
    assert code == 1  # of several classes
    assert SECRET not in out + err


def test_a_missing_one_has_the_exit_code_of_what_is_not_found(project, monkeypatch, capsys) -> None:
    cli = Cli(monkeypatch, capsys)
    shown = f"vault:{project.project}/secrets/development.yml#token"
    told = f"good     manifests/hosts/rpc-1.yaml: secrets.token ({shown})\n"
    assert cli("secrets", "check", "--host", "rpc-1")[:2] == (0, told)
    refer(project, token="vault:secrets/development.yml#ghost")
    rows = check_host(project, "rpc-1")
    assert exit_code(rows) == NotFound.exit_code
    assert "ansible-vault edit" in rows[0].cure
    assert cli("secrets", "check", "--host", "rpc-1")[0] == NotFound.exit_code
    assert cli("secrets", "check")[0] == 2


def test_two_environments_with_one_vault_are_told(project) -> None:
    place = project.project / "manifests/environments/staging.yaml"
    Path(place).write_text(
        yaml.safe_dump(
            {"schema_version": 1, "name": "staging", "secrets": {"vault_files": ["secrets/development.yml"]}}
        )
    )
    (row,) = [row for row in check_environment(project, "development") if row.state is SecretState.BROKEN]
    assert "development and staging both may read" in row.told
    assert row.exit_code == Refused.exit_code
