"""`qtrade secrets rotate` on a real agent over a real SSH server: from its source to the host, proven, and never shown."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flash.push import push
from flash.secrets import VAULT_PASSWORD, kv, resolve
from qtrade import process, ssh_sharing
from qtrade.errors import HostError, NotFound, Refused
from tests.fakes.cli import Cli
from tests.fakes.examples import make_environment, make_settings
from tests.fakes.kv_server import serve_kv
from tests.fakes.projects import write_project
from tests.fakes.pushed_host import PushedHost, run_pushed_host
from tests.fakes.reporter import RecordingReporter

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

FIRST, SECOND = "first-value-of-the-test", "second-value-of-the-test"
REF = "vault:secrets/development.yml#token"


@pytest.fixture
def host(tmp_path, monkeypatch) -> Iterator[PushedHost]:
    for name in ("ANSIBLE_VAULT_PASSWORD_FILE", "QTRADE_VAULT_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(prefix="q") as short:
        settings = make_settings(Path(short))
        with run_pushed_host(settings, tmp_path / "host") as running:
            for name, folder in (
                ("PROJECT", settings.project),
                ("STATE_DIR", settings.state_dir),
                ("STORE", settings.store),
            ):
                monkeypatch.setenv(f"QTRADE_{name}", str(folder))
            write_vault(running, token=FIRST, token_expires="2030-01-01")
            running.write_manifest(secrets={"app_token": REF})
            push(settings, "rpc-1", RecordingReporter())
            running.acts()
            yield running
            ssh_sharing.close_all()


@pytest.fixture
def cli(host, monkeypatch, capsys) -> Cli:
    return Cli(monkeypatch, capsys)


def write_vault(host: PushedHost, **values: str) -> None:
    password, path = host.settings.keys_dir / VAULT_PASSWORD, host.settings.project / "secrets/development.yml"
    password.write_text("of the vault\n")
    path.parent.mkdir(exist_ok=True)
    options = ["--vault-password-file", password, "--output", path, "-"]
    process.run([process.beside_python("ansible-vault"), "encrypt", *options], stdin=yaml.safe_dump(values).encode())


def held(host: PushedHost) -> str:
    """Return what the host's unit would read."""
    path = host.folder / "run/state/credstore/app_token"
    return process.run(["sh", "-c", f"tail -n +2 {path} | base64 -d"]).stdout


def rotate(cli: Cli, *options: str, name: str = "app_token") -> tuple[int, str, str]:
    return cli("secrets", "rotate", name, "--host", "rpc-1", *options)


def test_a_new_value_travels_from_its_source_and_nothing_else_does(host, cli) -> None:
    assert rotate(cli, "--yes")[:2] == (0, "rpc-1: app_token was there already, verified\n")
    write_vault(host, token=SECOND)
    host.write_manifest(secrets={"app_token": REF}, app_a=9)
    code, out, err = rotate(cli, "--yes")
    assert (code, out) == (0, "rpc-1: app_token sent, verified; units: db.service\n"), err
    assert held(host) == SECOND
    assert host.acts() == ["restart db.service"]
    # The changed config waits for a push.
    assert (host.current, host.read("app/app.env")) == ("1", "A=1\n")
    assert SECOND not in out + err


def test_a_fresh_value_is_written_into_the_vault_file_and_sent(host, cli) -> None:
    code, out, err = rotate(cli, "--generate", "--yes")
    assert code == 0, err
    assert held(host) not in ("", FIRST)
    assert resolve(host.settings, make_environment(), "here", REF).decode() == held(host)
    assert held(host) not in out + err + (host.settings.project / "secrets/development.yml").read_text()
    document = process.run(
        [process.beside_python("ansible-vault"), "view", "--vault-password-file", host.settings.keys_dir / VAULT_PASSWORD,
         host.settings.project / "secrets/development.yml"]
    ).stdout  # fmt: skip
    assert set(yaml.safe_load(document)) == {"token"}  # the old value's last day went with it


def test_a_fresh_value_is_written_into_vault_and_sent(host, cli) -> None:
    kv.forget_readers()
    with serve_kv() as server:
        server.put("qtrade/development/rpc-1/app", token=FIRST)
        token = host.settings.keys_dir / "vault-token-development"
        token.write_text(server.issue())
        token.chmod(0o600)
        use_vault(host, server.url)
        code, out, err = rotate(cli, "--generate", "--yes")
        assert (code, out) == (0, "rpc-1: app_token sent, verified; units: db.service\n"), err
        assert held(host) == server.value("qtrade/development/rpc-1/app", "token") != FIRST
        assert held(host) not in out + err


def use_vault(host: PushedHost, url: str) -> None:
    access = {"address": url, "prefix": "qtrade/development", "auth": {"method": "token"}}
    ssh = {"identity_file": str(host.server.identity), "port": host.wire.port, "user": "root"}
    fields = {"address": "127.0.0.1", "ssh": ssh, "secrets": {"app_token": "kv:rpc-1/app#token"}}
    write_project(host.settings, host=fields, environment={"secrets": {"kv": access}})


def test_a_dry_run_of_an_environment_shows_who_would_be_sent_it(host, cli) -> None:
    write_vault(host, token=SECOND)
    code, out, err = cli("secrets", "rotate", "app_token", "--env", "development", "--dry-run", "--json")
    assert code == 0, err
    (one,) = json.loads(out)["hosts"]
    assert one["plan"]["secrets"] == {"app_token": "changed"}
    assert (one["plan"]["files"], held(host)) == ([], FIRST)
    assert cli.json("secrets", "rotate", "app_token", "--env", "development", "--yes") == {
        "secret": "app_token",
        "hosts": [{"host": "rpc-1", "sent": True, "units": ["db.service"], "verified": True, "error": None}],
    }
    assert SECOND not in out + err


def test_nothing_is_written_where_a_host_does_not_answer_or_nobody_agrees(host, cli) -> None:
    before = (host.settings.project / "secrets/development.yml").read_bytes()
    code, _, err = rotate(cli, "--generate")
    assert (code, "nobody can be asked" in err) == (2, True)
    host.server.stop()
    ssh_sharing.close_all()
    assert rotate(cli, "--generate", "--yes")[0] == HostError.exit_code
    assert (host.settings.project / "secrets/development.yml").read_bytes() == before


def test_a_source_that_others_use_is_not_changed_behind_their_backs(host, cli) -> None:
    other = host.settings.project / "manifests/hosts/rpc-2.yaml"
    fields = yaml.safe_load((host.settings.project / "manifests/hosts/rpc-1.yaml").read_text())
    other.write_text(yaml.safe_dump({**fields, "name": "rpc-2"}))
    code, _, err = rotate(cli, "--generate", "--yes")
    assert code == Refused.exit_code
    assert "rpc-2 (secrets.app_token)" in err


def test_what_cannot_be_rotated_says_why(host, cli, monkeypatch) -> None:
    assert rotate(cli, "--yes", name="ghost")[0] == NotFound.exit_code
    monkeypatch.setenv("APP_TOKEN", FIRST)
    host.write_manifest(secrets={"app_token": "env:APP_TOKEN"})
    code, _, err = rotate(cli, "--generate", "--yes")
    assert (code, "cannot be written" in err) == (Refused.exit_code, True)
    monkeypatch.setenv("APP_TOKEN", SECOND)
    assert rotate(cli, "--yes")[0] == 0
    assert held(host) == SECOND
