"""What doctor finds wrong with a project and a machine, as text and as one document."""

import json
import time

import pytest
import yaml

from flash.inventory import load_host
from flash.secrets.check import check_driver
from qtrade.process import as_root
from qtrade.trust.keyring import init_keys, renew_trust
from qtrade.upkeep.check import Check, Health
from qtrade.upkeep.doctor import examine
from qtrade.upkeep.machine_checks import _memory, check_clock, stale_mounts
from qtrade.upkeep.reach_checks import check_reach
from tests.fakes.cli import Cli
from tests.fakes.examples import host_fields, make_settings
from tests.fakes.loopback import QuietHandler, serve_on_loopback
from tests.fakes.projects import publish_image, write_project

pytestmark = pytest.mark.unit

GIB_KB = 1 << 20


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made = make_settings(tmp_path)
    (tmp_path / "bmc-password").touch(mode=0o600)
    (tmp_path / "deploy").touch(mode=0o600)
    driver = {**host_fields()["driver"], "password_file": str(tmp_path / "bmc-password")}
    write_project(made, host={"driver": driver, "ssh": {"identity_file": str(tmp_path / "deploy")}})
    monkeypatch.setenv("QTRADE_PROJECT", str(made.project))
    monkeypatch.setenv("QTRADE_STATE_DIR", str(made.state_dir))
    return made


def found(settings, name: str, *, online: bool = False) -> list[Check]:
    return [check for check in examine(settings, online=online).checks if check.name == name]


def test_a_key_that_others_can_read_is_missing_its_lock(settings, monkeypatch, capsys) -> None:
    init_keys(settings)
    assert [check.health for check in found(settings, "private files")] == [Health.GOOD]
    key = settings.keys_dir / "promote.key"
    key.chmod(0o644)
    (check,) = found(settings, "private files")
    assert check == Check("private files", Health.MISSING, f"keys: {key} has mode 0644", f"chmod 600 {key}")
    code, out, err = Cli(monkeypatch, capsys)("doctor", "--json")
    document = json.loads(out)
    assert (code, err, document["ok"]) == (1, "", False)
    assert {"name": check.name, "health": "missing", "found": check.found, "cure": check.cure} in document["checks"]
    code, out, _ = Cli(monkeypatch, capsys)("doctor")
    assert code == 1
    assert f"missing  private files: keys: {key} has mode 0644\n         to mend it: chmod 600 {key}\n" in out
    key.chmod(0o600)
    settings.keys_dir.chmod(0o755)
    assert found(settings, "private files")[0].cure == f"chmod 700 {settings.keys_dir}"


def test_files_that_manifests_name_must_be_there_and_private(settings, tmp_path) -> None:
    (tmp_path / "deploy").chmod(0o640)
    (tmp_path / "bmc-password").unlink()
    told = sorted(check.found for check in found(settings, "private files"))
    assert told == [
        f"host rpc-1: driver.password_file: there is no {tmp_path}/bmc-password",
        f"host rpc-1: ssh: {tmp_path}/deploy has mode 0640",
    ]


def test_keys_are_said_to_end_before_they_do(settings) -> None:
    assert found(settings, "keys")[0].cure == "qtrade keys init"
    init_keys(settings, expires_days=20)
    (soon,) = found(settings, "keys")
    assert (soon.health, soon.found, soon.cure) == (
        Health.WARNING,
        "trust set 1, good for 19 days",
        "qtrade keys renew",
    )
    renew_trust(settings, expires_days=100)
    assert found(settings, "keys")[0].health is Health.GOOD
    (settings.keys_dir / "trust.json").write_text("{")
    assert found(settings, "keys")[0].health is Health.MISSING


def test_a_manifest_that_cannot_be_read_hides_no_other(settings) -> None:
    path = settings.project / "manifests/hosts/rpc-2.yaml"
    path.write_text(yaml.safe_dump(host_fields(name="rpc-2", role="cook")))
    (check,) = found(settings, "host rpc-2")
    assert check.health is Health.MISSING
    assert "rpc-2.yaml:" in check.found
    assert "role: " in check.found
    assert "validator" in check.found
    (settings.project / "manifests/environments/development.yaml").write_text("schema_version: 1\n")
    assert found(settings, "environment development")[0].health is Health.MISSING


def test_a_providers_token_must_resolve(settings, monkeypatch) -> None:
    driver = {"kind": "latitude", "server_id": "sv_1", "token": "env:QTRADE_TEST_TOKEN"}
    write_project(settings, host={"driver": driver, "doors": ["in_place"], "netboot": None})
    (check,) = found(settings, "provider tokens")
    assert check.health is Health.MISSING
    assert "driver.token" in check.found
    monkeypatch.setenv("QTRADE_TEST_TOKEN", "a token that is long enough")
    assert [row.state for row in check_driver(settings, load_host(settings, "rpc-1"), online=False)] == ["good"]
    write_project(settings, host={"driver": {**driver, "token": "kv:a#b"}, "doors": ["in_place"], "netboot": None})
    # Nobody asks a Vault unless it is wanted.
    assert check_driver(settings, load_host(settings, "rpc-1"), online=False) == ()
    assert [row.state for row in check_driver(settings, load_host(settings, "rpc-1"), online=True)] == ["broken"]


def test_both_passwords_of_a_host_on_ironic_must_resolve(settings, monkeypatch) -> None:
    bmc = {"address": "https://192.0.2.9", "system": "/redfish/v1/Systems/1", "username": "admin"}
    enrol = {**bmc, "password": "env:QTRADE_TEST_BMC"}
    driver = {"kind": "ironic", "node": "rpc-1", "url": "http://192.0.2.1:6385", "enrol": enrol}
    driver |= {"username": "qtrade", "password": "env:QTRADE_TEST_IRONIC"}
    write_project(settings, host={"driver": driver, "doors": ["in_place"], "netboot": None})
    monkeypatch.setenv("QTRADE_TEST_IRONIC", "a password that is long enough")
    rows = check_driver(settings, load_host(settings, "rpc-1"), online=False)
    assert [(row.state, row.where.rpartition(": ")[2]) for row in rows] == [
        ("good", "driver.password"),
        ("broken", "driver.enrol.password"),
    ]


def test_the_store_and_the_tools_root(settings) -> None:
    assert found(settings, "store")[0].found.endswith("made by the first bake")
    publish_image(settings)
    assert found(settings, "store") == [Check("store", Health.GOOD, str(settings.store))]
    assert found(settings, "tools root")[0].cure == as_root("qtrade tools")


@pytest.mark.parametrize(
    ("kilobytes", "health"),
    [(GIB_KB // 4, Health.MISSING), (2 * GIB_KB, Health.WARNING), (8 * GIB_KB, Health.GOOD)],
)
def test_memory(kilobytes, health) -> None:
    assert _memory(f"MemTotal: 99 kB\nMemAvailable:  {kilobytes} kB\n").health is health


@pytest.mark.parametrize(("state", "health"), [(0, Health.GOOD), (5, Health.WARNING), (-1, Health.WARNING)])
def test_clock(state, health) -> None:
    assert check_clock(state).health is health


def test_mounts_that_a_killed_command_left(settings) -> None:
    layer = settings.work_dir / "layer-a/root"
    lines = [f"1 1 0:1 / {target} rw - tmpfs none rw" for target in (layer.resolve(), settings.store.resolve(), "/")]
    assert list(stale_mounts(settings, "\n".join(lines))) == [
        Check(
            "stale mounts",
            Health.WARNING,
            str(layer),
            as_root(f"umount -R {layer}") + ", once no `qtrade` command runs",
        )
    ]
    assert [check.health for check in stale_mounts(settings, "")] == [Health.GOOD]


def test_who_answers_is_asked_only_online(settings) -> None:
    with serve_on_loopback(QuietHandler) as url:
        port = int(url.rsplit(":", 1)[1])
        driver = {**host_fields()["driver"], "url": url}
        write_project(settings, host={"driver": driver, "address": "127.0.0.1", "ssh": {"port": port}})
        host = load_host(settings, "rpc-1")
        assert list(check_reach(settings, (host,))) == [
            Check("host rpc-1", Health.GOOD, f"127.0.0.1:{port} answers"),
            Check("redfish of rpc-1", Health.GOOD, f"127.0.0.1:{port} answers"),
        ]
        assert found(settings, "host rpc-1") == []
        assert len(found(settings, "host rpc-1", online=True)) == 1
    (silent, _) = check_reach(settings, (host,))
    assert (silent.health, silent.found) == (Health.WARNING, f"127.0.0.1:{port}: Connection refused")
    assert silent.cure == "qtrade hosts test --host rpc-1"


def test_doctor_leaves_everything_as_it_was(settings) -> None:
    init_keys(settings)
    publish_image(settings)
    folders = (settings.project, settings.state_dir)
    before = {path: path.lstat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}
    time.sleep(0.01)
    examine(settings, online=False)
    assert before == {
        path: path.lstat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()
    }
