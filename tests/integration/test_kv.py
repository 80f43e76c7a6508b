"""References to HashiCorp Vault, by the real client hvac, against a server that is as strict as its API's documents."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flash.secrets import kv, look_up, resolve
from flash.secrets.references import parse_reference
from qtrade.errors import BadInput, ConflictError, NotFound, QtradeError, Refused, ToolError
from qtrade.manifest import Environment
from qtrade.redaction import redact
from qtrade.settings import Settings
from tests.fakes.examples import make_environment, make_settings
from tests.fakes.kv_server import REQUEST_TOKEN, ROLE_ID, SECRET_ID, KvServer, serve_kv

pytestmark = pytest.mark.integration

WHERE = "manifests/hosts/rpc-1.yaml: secrets.token"
VALUE = "kv-value-of-the-test-7d1f"
REF = "kv:rpc-1/app#token"


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    for name in ("ROLE_ID_FILE", "SECRET_ID_FILE", "TOKEN_FILE"):
        monkeypatch.delenv(f"QTRADE_VAULT_{name}", raising=False)
    kv.forget_readers()
    made = make_settings(tmp_path)
    made.keys_dir.mkdir(parents=True)
    for name, value in (("role-id", ROLE_ID), ("secret-id", SECRET_ID)):
        write_credential(made.keys_dir / f"vault-{name}-development", value)
    return made


@pytest.fixture
def server() -> Iterator[KvServer]:
    with serve_kv() as served:
        served.put("qtrade/development/rpc-1/app", token=VALUE, other="beside-it-in-the-secret")
        yield served


def write_credential(path: Path, value: str, mode: int = 0o600) -> None:
    path.write_text(f"{value}\n")
    path.chmod(mode)


def environment(server: KvServer, auth: dict[str, str] | None = None, **changes: object) -> Environment:
    access = {"address": server.url, "prefix": "qtrade/development", "auth": auth or {"method": "approle"}, **changes}
    return make_environment(secrets={"kv": access})


def read(settings: Settings, rules: Environment, reference: str = REF) -> str:
    return resolve(settings, rules, WHERE, reference).decode()


def error_of(settings: Settings, rules: Environment, kind: type[QtradeError], reference: str = REF) -> QtradeError:
    """Return the error, which names the field and tells no secret."""
    with pytest.raises(kind) as caught:
        read(settings, rules, reference)
    text = caught.value.render()
    assert WHERE in text
    assert caught.value.resolution
    for hidden in (VALUE, "beside-it-in-the-secret", SECRET_ID, ROLE_ID):
        assert hidden not in text
    return caught.value


def test_a_field_is_read_by_approle_and_one_login_serves_all(settings, server) -> None:
    rules = environment(server)
    assert [read(settings, rules), read(settings, rules, "kv:rpc-1/app#other")] == [VALUE, "beside-it-in-the-secret"]
    assert server.requests.count("POST /v1/auth/approle/login") == 1
    assert redact(f"{VALUE} {SECRET_ID} {next(iter(server.tokens))}") == "*** *** ***"


def test_an_older_version_is_read_where_the_reference_names_it(settings, server) -> None:
    server.put("qtrade/development/rpc-1/app", token="kv-second-version")
    rules = environment(server)
    assert read(settings, rules) == "kv-second-version"
    assert read(settings, rules, "kv:rpc-1/app@1#token") == VALUE
    assert "version 9" in error_of(settings, rules, NotFound, "kv:rpc-1/app@9#token").brief


def test_a_token_is_renewed_before_it_ends(settings, server) -> None:
    moved = [0.0]
    reader = kv.KvReader(settings, "development", environment(server).secrets.kv, clock=lambda: moved[0])
    reference = parse_reference(settings, environment(server), WHERE, REF)
    assert reader.read(WHERE, reference).value == VALUE
    moved[0] = server.moved_s = 1195.0
    assert reader.read(WHERE, reference).value == VALUE
    assert server.requests.count("POST /v1/auth/token/renew-self") == 1
    assert server.requests.count("POST /v1/auth/approle/login") == 1
    # Renewed, it lives past its first end.
    moved[0] = server.moved_s = 1195.0 + 600
    assert reader.read(WHERE, reference).value == VALUE
    assert len(server.tokens) == 1


@pytest.mark.parametrize("why", ["no renewal", "longest life", "ended"])
def test_a_token_that_cannot_be_renewed_is_followed_by_a_new_login(settings, server, why) -> None:
    server.renewable = why != "no renewal"
    server.max_ttl_s = 1200 if why == "longest life" else 7200
    moved = [0.0]
    reader = kv.KvReader(settings, "development", environment(server).secrets.kv, clock=lambda: moved[0])
    reference = parse_reference(settings, environment(server), WHERE, REF)
    reader.read(WHERE, reference)
    moved[0] = server.moved_s = 1300.0 if why == "ended" else 1195.0
    assert reader.read(WHERE, reference).value == VALUE
    assert server.requests.count("POST /v1/auth/approle/login") == 2


def test_a_token_of_a_file_is_used_as_it_is(settings, server) -> None:
    write_credential(settings.keys_dir / "vault-token-development", server.issue(ttl_s=0))
    assert read(settings, environment(server, {"method": "token"})) == VALUE
    assert "login" not in " ".join(server.requests)


def test_a_workflow_logs_in_with_the_identity_that_github_gives_it(settings, server, monkeypatch) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{server.url}/github/token?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN)
    auth = {"method": "github", "role": "qtrade-deploy"}
    assert read(settings, environment(server, auth)) == VALUE
    kv.forget_readers()
    wrong = error_of(settings, environment(server, {**auth, "audience": "elsewhere"}), BadInput)
    assert "does not take our login" in wrong.brief
    assert "audience" in wrong.details
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "another-token")
    kv.forget_readers()
    assert "gave no identity token" in error_of(settings, environment(server, auth), ToolError).brief
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL")
    kv.forget_readers()
    assert "id-token: write" in error_of(settings, environment(server, auth), NotFound).resolution


def test_a_login_that_is_refused_says_which_file_to_look_at(settings, server) -> None:
    server.secret_ids = []
    error = error_of(settings, environment(server), BadInput)
    assert error.details == "invalid role or secret ID"
    assert "vault-secret-id-development" in error.resolution


def test_permission_denied_names_the_path_and_the_policy(settings, server) -> None:
    server.prefix = "secret/qtrade/staging"
    error = error_of(settings, environment(server), ToolError)
    assert "does not let us at secret/qtrade/development/rpc-1/app" in error.brief
    assert "permission denied" in error.details
    assert "secret/data/qtrade/development/*" in error.resolution


def test_a_sealed_vault_is_called_sealed(settings, server) -> None:
    rules = environment(server)
    server.sealed = True
    assert "is sealed" in error_of(settings, rules, ToolError).brief
    server.sealed = False
    assert read(settings, rules) == VALUE
    server.sealed = True
    assert "vault operator unseal" in error_of(settings, rules, ToolError).resolution


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("kv:rpc-1/ghost#token", "nothing at secret/qtrade/development/rpc-1/ghost"),
        ("kv:rpc-1/app#ghost", "has no field ghost"),
    ],
)
def test_a_wrong_path_or_field_is_named(settings, server, reference, told) -> None:
    assert told in error_of(settings, environment(server), NotFound, reference).brief


def test_a_wrong_mount_is_named(settings, server) -> None:
    server.prefix = ""
    error = error_of(settings, environment(server, mount="typo"), NotFound)
    assert "route entry not found" in error.details
    assert "secrets.kv.mount" in error.resolution


def test_a_deleted_version_says_that_it_was_deleted(settings, server) -> None:
    server.put("qtrade/development/rpc-1/gone", deletes="2026-01-02T03:04:05.123456789Z", token=VALUE)
    assert (
        "version 1 was deleted at 2026-01-02"
        in error_of(settings, environment(server), NotFound, "kv:rpc-1/gone#token").details
    )


def test_a_vault_that_does_not_answer_is_named_by_its_address(settings) -> None:
    with serve_kv() as server:
        rules = environment(server)
    assert f"Vault at {server.url} does not answer" in error_of(settings, rules, ToolError).brief


@pytest.mark.parametrize("name", ["vault-role-id-development", "vault-secret-id-development"])
def test_credentials_that_are_missing_or_open_to_others_are_refused(settings, server, name) -> None:
    (settings.keys_dir / name).chmod(0o640)
    assert "chmod 600" in error_of(settings, environment(server), Refused).resolution
    (settings.keys_dir / name).unlink()
    assert name in error_of(settings, environment(server), NotFound).brief
    assert server.requests == []


@pytest.mark.parametrize("answer", ["hello", '{"data": {"foo": "bar"}}', "[]"])
def test_an_answer_that_is_none_of_vaults_is_called_so(settings, server, answer) -> None:
    rules = environment(server)
    read(settings, rules)
    server._read = lambda *_: (200, json.loads(answer) if answer != "hello" else answer)
    with pytest.raises((BadInput, ToolError), match=r"no KV engine of version 2|could not answer"):
        read(settings, rules)


def test_a_namespace_goes_along(settings, server) -> None:
    server.namespace = "ops/qtrade"
    assert read(settings, environment(server, namespace="ops/qtrade")) == VALUE


@pytest.mark.parametrize("source", ["deletion", "custom"])
def test_when_a_secret_ends_is_known(settings, server, source) -> None:
    at = datetime.now(UTC) + timedelta(days=3)
    if source == "deletion":
        server.put("qtrade/development/rpc-1/app", deletes=at.isoformat().replace("+00:00", "123Z"), token=VALUE)
    else:
        server.custom["secret/qtrade/development/rpc-1/app"] = {"expires": at.date().isoformat()}
    ends = look_up(settings, environment(server), WHERE, REF).expires
    assert ends is not None
    assert ends.date() == at.date()


def test_a_new_value_is_written_beside_the_others_and_never_over_somebody_elses(settings, server) -> None:
    rules = environment(server)
    reference, reader = (
        parse_reference(settings, rules, WHERE, REF),
        kv.reader_for(settings, "development", rules.secrets.kv),
    )
    reader.write(WHERE, reference, "kv-fresh-value")
    assert server.secrets["secret/qtrade/development/rpc-1/app"][-1]["data"] == {
        "token": "kv-fresh-value",
        "other": "beside-it-in-the-secret",
    }
    was = server._read

    def meanwhile(*args):
        answer = was(*args)
        server.put("qtrade/development/rpc-1/app", token="of-somebody-else")
        return answer

    server._read = meanwhile
    with pytest.raises(ConflictError, match="changed by somebody else"):
        reader.write(WHERE, reference, "kv-lost-value")
    assert server.value("qtrade/development/rpc-1/app", "token") == "of-somebody-else"


def test_without_hvac_the_error_says_what_to_install(settings, server, tmp_path) -> None:
    """In an interpreter that cannot find it, as where the extra was left out."""
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, *rest):
        if name.split('.')[0] == 'hvac':
            raise ModuleNotFoundError("No module named 'hvac'", name='hvac')
sys.meta_path.insert(0, Blocked())
from tests.integration.test_kv import environment, WHERE, REF
from flash.secrets import resolve
from qtrade.settings import Settings
from pathlib import Path
from types import SimpleNamespace
from qtrade.errors import QtradeError
try:
    resolve(Settings(Path({str(settings.project)!r}), Path({str(settings.state_dir)!r}), Path('/s')),
            environment(SimpleNamespace(url={server.url!r})), WHERE, REF)
except QtradeError as error:
    print(error.exit_code, error.render())
"""
    project = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        f"5 error: {WHERE}: a reference to HashiCorp Vault needs hvac\nTo mend it: install it: pip install 'qtrade[vault]'\n"
    )
    assert server.requests == []
    assert json.dumps(done.stderr) == '""'
