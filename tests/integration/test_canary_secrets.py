"""Canaries in a vault file, in HashiCorp Vault and in the environment go to a real agent over real SSH, and are nowhere else afterwards."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from flash.secrets import VAULT_PASSWORD
from qtrade import process, ssh_sharing
from qtrade.redaction import redact, register_secret
from tests.fakes import canary
from tests.fakes.canary import PLANTED, find_in, forms, search, watch_programs
from tests.fakes.examples import make_settings
from tests.fakes.kv_server import ROLE_ID, SECRET_ID, KvServer, serve_kv
from tests.fakes.projects import write_project
from tests.fakes.pushed_host import PushedHost, run_pushed_host

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

QTRADE = Path(sys.executable).parent / "qtrade"
VALUES = {name: PLANTED[name] for name in ("file", "vault", "environment")}
SECRETS = {
    "app_token": "vault:secrets/development.yml#token",
    "app_key": "kv:rpc-1/app#key",
    "app_code": "env:APP_CODE",
}


@dataclass
class Rig:
    """The host, its Vault, and all that commands said."""

    host: PushedHost
    vault: KvServer
    said: list[bytes] = field(default_factory=list)
    watched: list[canary.Watched] = field(default_factory=list)

    def run(self, *args: str, code: int | None = 0) -> bytes:
        """Run qtrade as people do, and look at all programs while it runs."""
        settings = self.host.settings
        env = {
            **os.environ, "APP_CODE": VALUES["environment"], "QTRADE_PROJECT": str(settings.project),
            "QTRADE_STATE_DIR": str(settings.state_dir), "QTRADE_STORE": str(settings.store), "DD_API_KEY": "x" * 32,
            "DD_APP_KEY": "x" * 32,
        }  # fmt: skip
        child = subprocess.Popen(
            [QTRADE, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        with watch_programs(VALUES, child.pid) as watched:
            out, err = child.communicate(timeout=120)
        self.said += [out, err]
        self.watched.append(watched)
        assert code is None or child.returncode == code, (args, out, err)
        return out


@pytest.fixture
def rig(tmp_path, monkeypatch) -> Iterator[Rig]:
    for name in ("ANSIBLE_VAULT_PASSWORD_FILE", "QTRADE_VAULT_ROLE_ID_FILE", "QTRADE_VAULT_SECRET_ID_FILE"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(prefix="q") as short, serve_kv() as vault:
        settings = make_settings(Path(short))
        with run_pushed_host(settings, tmp_path / "host") as host:
            plant(host, vault, VALUES)
            yield Rig(host, vault)
            ssh_sharing.close_all()


def plant(host: PushedHost, vault: KvServer, values: dict[str, str]) -> None:
    settings = host.settings
    for name, value in (("role-id", ROLE_ID), ("secret-id", SECRET_ID)):
        path = settings.keys_dir / f"vault-{name}-development"
        path.write_text(value)
        path.chmod(0o600)
    vault.put("qtrade/development/rpc-1/app", key=values["vault"])
    password, file = settings.keys_dir / VAULT_PASSWORD, settings.project / "secrets/development.yml"
    password.write_text("of the vault\n")
    file.parent.mkdir(exist_ok=True)
    options = ["--vault-password-file", password, "--output", file, "-"]
    process.run(
        [process.beside_python("ansible-vault"), "encrypt", *options],
        stdin=yaml.safe_dump({"token": values["file"]}).encode(),
    )
    access = {"address": vault.url, "prefix": "qtrade/development", "auth": {"method": "approle"}}
    ssh = {"identity_file": str(host.server.identity), "port": host.wire.port, "user": "root", "operator": "root"}
    fields = {
        "address": "127.0.0.1", "ssh": ssh, "secrets": SECRETS, "driver": {"kind": "ssh"}, "doors": ["in_place"], "netboot": None,
    }  # fmt: skip
    write_project(settings, host=fields, environment={"secrets": {"kv": access}, "monitor_set": "none"})


def credential(host: PushedHost, name: str) -> str:
    lines = (host.folder / "run/state/credstore" / name).read_text().splitlines()[1:]
    return base64.b64decode("".join(lines)).decode()


def test_canaries_reach_their_units_and_nothing_else(rig) -> None:
    host = rig.host
    rig.run("secrets", "check", "--env", "development")
    rig.run("push", "--host", "rpc-1", "--dry-run", "--diff", "--json")
    document = json.loads(rig.run("push", "--host", "rpc-1", "--yes", "--json"))
    assert sorted(document["secrets"]) == sorted(SECRETS)
    # A service that fails with its secret in its last words, as badly written ones do.
    host.hook("db.service", "cat /run/qtrade/state/credstore/app_token | tail -n +2 | base64 -d >&2; exit 1\n")
    fresh = {name: f"{value}-again" for name, value in VALUES.items()}
    plant(host, rig.vault, fresh)
    rig.run("secrets", "rotate", "app_token", "--host", "rpc-1", "--yes", code=9)
    host.hook("db.service", "true\n")
    rig.run("secrets", "rotate", "app_token", "--host", "rpc-1", "--yes", "--json")
    rig.run("secrets", "rotate", "app_key", "--host", "rpc-1", "--yes")
    rig.run("ssh", "rpc-1", "--reason", "the test looks around", "--", "true")
    rig.run("drift", "--host", "rpc-1", "--json", code=None)
    rig.run("drift", "--host", "rpc-1", "--html", code=None)
    rig.run("hosts", "show", "rpc-1", "--json")
    # They arrived, or nothing below would prove anything.
    assert credential(host, "app_token") == fresh["file"]
    assert credential(host, "app_key") == fresh["vault"]
    assert credential(host, "app_code") == VALUES["environment"]
    assert [hit for one in rig.said for hit in find_in(one, VALUES)] == []
    settings, store = host.settings, host.folder / "run/state/credstore"
    found = search([settings.project, settings.state_dir, settings.store, host.folder], VALUES, without=[store])
    assert found.hits == ()
    assert found.files > 50
    assert [hit for one in rig.watched for hit in one.hits] == []
    seen = set().union(*(one.programs for one in rig.watched))
    # The samples have seen who had the values in hand: on the way there, and at the host's end.
    assert {"ssh", "sh"} <= seen
    assert sum(one.rounds for one in rig.watched) > 50


def test_the_search_would_find_them(rig) -> None:
    """Every form, planted on purpose where nothing may be, is a hit; so is what the credential store holds."""
    rig.run("push", "--host", "rpc-1", "--yes")
    host, value = rig.host, VALUES["file"]
    assert search([host.folder / "run/state/credstore"], VALUES).hits
    encoded = base64.b64encode(value.encode()).decode()
    envelope = base64.b64encode(json.dumps({"secrets": [{"name": "app_token", "value": encoded}]}).encode())
    spelled = {
        "raw": value, "json": json.dumps({"a": value}), "url": f"https://x/?k={quote(value, safe='')}&b",
        "basic": base64.b64encode(f"user:{value}".encode()).decode(), "envelope": envelope.decode(),
    }  # fmt: skip
    for name, text in spelled.items():
        place = host.settings.state_dir / "flashes" / f"{name}.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"before {text} after\n")
        hits = search([place.parent], VALUES).hits
        assert hits, name
        place.unlink()
    with watch_programs({"file": "canary-argument-of-the-test"}) as watched:
        subprocess.run(["sh", "-c", "sleep 0.2 # canary-argument-of-the-test"], check=True)
    assert any("arguments of sh" in hit for hit in watched.hits)
    with watch_programs({"file": "canary-variable-of-the-test"}) as watched:
        subprocess.run(["sleep", "0.2"], env={**os.environ, "X": "canary-variable-of-the-test"}, check=True)
    assert any("environment of sleep" in hit for hit in watched.hits)


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_the_filter_hides_every_form_that_the_search_knows(name) -> None:
    value = PLANTED[name]
    before = {how: redact(one.decode(errors="replace")) for how, one in forms(value).items()}
    assert all(text != "***" for text in before.values())
    register_secret(value)
    text = "".join(
        f"<{one.decode()}>\n" for how, one in forms(value).items() if "in base64" not in how and how != "latin"
    )
    assert find_in(redact(text).encode(), {name: value}) == []
    assert "***" in redact(text)
