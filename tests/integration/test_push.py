"""Pushes to the real agent over a real SSH server: what changes, what is undone, what is refused."""

import base64
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flash import confirmation, push_many
from flash import push as pushing
from flash.access import HeldAccess
from flash.config import ConfigFile
from flash.inventory import load_host
from flash.jobs import AgentFailed
from flash.lease import lease
from flash.push import Order
from flash.ssh import pin_host_key
from qtrade import ssh_sharing
from qtrade.errors import BadInput, ConflictError, HostError
from qtrade.signing import ensure_key
from qtrade.store import open_store
from tests.fakes.cli import Cli
from tests.fakes.examples import make_settings
from tests.fakes.pushed_host import PushedHost, run_pushed_host, wait_until
from tests.fakes.reporter import RecordingReporter

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture
def host(tmp_path, monkeypatch) -> Iterator[PushedHost]:
    """A host with its first generation; trials are short."""
    monkeypatch.setattr(pushing, "TRIAL_S", 4)
    monkeypatch.setattr(confirmation, "_KNOCK_S", 0.5)
    with tempfile.TemporaryDirectory(prefix="q") as short:
        settings = make_settings(Path(short))
        with run_pushed_host(settings, tmp_path / "host") as running:
            assert push(running).generation == "1"
            running.acts()
            yield running
            ssh_sharing.close_all()


def push(host: PushedHost, order: Order | None = None) -> pushing.PushResult:
    (outcome,) = push_many.push_hosts(host.settings, [host.name], RecordingReporter(), lambda _: None, order)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.result is not None
    return outcome.result


def test_one_changed_value_reloads_one_unit(host) -> None:
    host.write_manifest(app_a=2)
    before = host.server.connections
    result = push(host)
    assert (result.generation, result.units, result.confirmed) == ("2", ("app.service",), False)
    assert host.acts() == ["reload-or-restart app.service"]
    assert (host.read("app/app.env"), host.read("db/db.conf")) == ("A=2\n", "B=1\n")
    assert host.settled == "2"
    assert list((host.folder / "run/rw/upper").iterdir()) == []
    assert host.timers() == []
    assert host.server.connections - before <= 1


def test_nothing_to_change_sends_nothing(host) -> None:
    result = push(host)
    assert (result.generation, result.changed, result.units) == ("1", False, ())
    assert host.acts() == []
    assert sorted(path.name for path in host.config.iterdir()) == ["1", "by-image", "current"]


def test_files_that_somebody_altered_are_there_again(host) -> None:
    path = host.config / "1/app/app.env"
    path.write_text("A=666\n")
    (host.config / "1/app/stray").write_text("x")
    assert push(host).units == ("app.service",)
    assert (host.read("app/app.env"), host.settled) == ("A=1\n", "2")
    assert not (host.config / "2/app/stray").exists()
    assert host.acts() == ["reload-or-restart app.service"]
    (host.config / "2/app/app.env").chmod(0o606)
    assert push(host).generation == "3"
    assert push(host).changed is False


def test_what_guards_access_is_confirmed_over_a_new_connection(host) -> None:
    host.write_manifest(app_network="up again")
    before = host.server.connections
    result = push(host)
    assert (result.generation, result.confirmed) == ("2", True)
    assert host.server.connections - before == 1
    assert (host.current, host.settled, host.timers()) == ("2", "2", [])
    assert host.acts() == ["reload-or-restart systemd-networkd.service"]


def test_what_only_a_boot_reads_waits_for_one(host) -> None:
    host.write_manifest(app_mount="/dev/sdb /mnt")
    assert push(host).reboot_needed == ("fstab",)
    assert push(host).reboot_needed == ("fstab",)
    assert host.acts() == []
    ssh_sharing.close_all()
    host.reboot()
    assert push(host).reboot_needed == ()


def test_a_bundle_that_cuts_the_network_is_undone_by_the_host(host) -> None:
    host.write_manifest(app_network="down", app_a=2)
    with pytest.raises(HostError, match="took it back: generation 1 is current") as caught:
        push(host)
    assert caught.value.exit_code == 9
    assert (host.current, host.settled, host.read("network/10-host.network")) == ("1", "1", "network up\n")
    assert host.acts() == ["reload-or-restart app.service", "reload-or-restart systemd-networkd.service"] * 2


@pytest.mark.parametrize("cuts", [False, True])
def test_the_controllers_death_leaves_it_to_the_host(host, monkeypatch, cuts) -> None:
    """The controller never confirms; with `cuts`, its connection and so its whole session ends in the middle too."""

    class Dead(Exception):
        pass

    def die(*_: object, **__: object) -> None:
        raise Dead

    host.wire.cuts = cuts
    host.write_manifest(app_network="down")
    with monkeypatch.context() as patched:
        patched.setattr(confirmation, "_confirm", die)
        with pytest.raises(Dead):
            push(host)
    assert host.current == "2"
    wait_until(lambda: host.current == "1")
    wait_until(lambda: host.timers() == [])
    host.write_manifest(app_a=2)
    assert push(host).generation == "3"


def test_a_reboot_in_the_window_goes_back_to_what_was_confirmed(host, monkeypatch) -> None:
    monkeypatch.setattr(pushing, "TRIAL_S", 60)
    monkeypatch.setattr(confirmation, "_confirm", lambda *_, **__: None)
    host.write_manifest(app_network="down", app_a=2)
    push(host)
    assert (host.current, host.settled) == ("2", "1")
    assert host.reboot() == "whole"
    assert (host.current, host.read("network/10-host.network"), host.read("app/app.env")) == (
        "1",
        "network up\n",
        "A=1\n",
    )


def test_the_last_generation_comes_back(host) -> None:
    host.write_manifest(app_a=2)
    push(host)
    host.acts()
    result = push(host, Order(rollback=True))
    assert (result.generation, result.units) == ("1", ("app.service",))
    assert (host.current, host.settled, host.read("app/app.env")) == ("1", "1", "A=1\n")
    assert push(host).generation == "3"


def test_a_wrong_value_is_an_error_before_anything_is_sent(host) -> None:
    host.write_manifest(app_a="two")
    with pytest.raises(BadInput, match=r"config\.app_a is 'two', not a int"):
        push(host)
    assert host.current == "1"


def test_an_agent_that_dies_in_the_middle_leaves_it_to_the_host(host, monkeypatch) -> None:
    """Its unit kills it, as the kernel would for want of memory; the timer was armed before."""
    (host.folder / "lib/qtrade/agent/trial.py").write_text(
        (host.folder / "lib/qtrade/agent/trial.py").read_text().replace("_GUARD_S = 120", "_GUARD_S = 3")
    )
    host.hook("app.service", f"[ -e {host.folder}/spared ] || {{ touch {host.folder}/spared; kill -9 $PPID; }}\n")
    host.write_manifest(app_a=2, app_b=2)
    with pytest.raises(HostError, match="the agent died in the middle of the change to generation 2"):
        push(host)
    assert (host.current, host.settled) == ("2", "1")
    wait_until(lambda: host.current == "1" and host.timers() == [])
    wait_until(lambda: host.acts()[-1:] == ["restart db.service"])
    assert push(host).generation == "3"
    assert (host.read("app/app.env"), host.settled) == ("A=2\n", "3")


def test_a_unit_that_refuses_brings_the_last_generation_back(host) -> None:
    host.hook("db.service", "! grep -q B=2 /run/qtrade/state/config/current/db/db.conf\n")
    host.write_manifest(app_a=2, app_b=2)
    with pytest.raises(HostError, match=r"generation 2 was not taken.*restart db\.service"):
        push(host)
    assert (host.current, host.settled, host.timers()) == ("1", "1", [])
    assert host.acts()[-2:] == ["reload-or-restart app.service", "restart db.service"]


def test_a_confirmation_needs_a_connection_made_after_the_change(host) -> None:
    """The network fails for all but live connections, as when a firewall's rules change; the old connection still gets through."""
    host.write_manifest(app_network="down")
    access = open_access(host)
    bundle = pushing.prepare(access).bundle
    job = access.jobs.apply(bundle.envelope(7, access.jobs.key), confirm_within_s=4)
    assert access.link.run(job)["waits_s"] == 4
    with pytest.raises(AgentFailed, match="only over a connection that was made after the change") as caught:
        access.link.run(access.jobs.confirm(job.nonce))
    assert caught.value.code == "connection-old"
    wait_until(lambda: host.current == "1")


def open_access(host: PushedHost) -> HeldAccess:
    store = open_store(host.settings)
    return HeldAccess(host.settings, load_host(host.settings, host.name), store, RecordingReporter(), 0, lambda: None)


def refusals(host: PushedHost) -> dict[str, tuple[str, Any]]:
    """Return what the host must refuse: by name, its word for why, and the bundle."""
    access = open_access(host)
    bundle, key = pushing.prepare(access).bundle, access.jobs.key
    stranger = ensure_key(host.folder / "stranger", "job")
    file = ConfigFile("etc/shadow", "0644", "root", "root", "x")
    altered = bundle.envelope(7, key)
    altered["payload"] = base64.b64encode(base64.b64decode(altered["payload"]).replace(b"rpc-1", b"rpc-2")).decode()
    return {
        "foreign": ("bundle-foreign", replace(bundle, host="rpc-2").envelope(7, key)),
        "of another image": ("bundle-foreign", replace(bundle, image="f" * 64).envelope(7, key)),
        "unsigned": ("signature-untrusted", {**bundle.envelope(7, key), "signatures": []}),
        "altered": ("signature-untrusted", altered),
        "by a stranger": ("signature-untrusted", bundle.envelope(7, stranger)),
        "undeclared": ("path-undeclared", replace(bundle, files=(*bundle.files, file)).envelope(7, key)),
        "outside": ("path-invalid", replace(bundle, files=(replace(file, path="../../x"),)).envelope(7, key)),
        "absolute": ("path-invalid", replace(bundle, files=(replace(file, path="/etc/x"),)).envelope(7, key)),
    }


def test_the_host_refuses_what_is_not_for_it(host) -> None:
    access = open_access(host)
    for name, (code, envelope) in refusals(host).items():
        with pytest.raises(AgentFailed) as caught:
            access.link.run(access.jobs.apply(envelope, confirm_within_s=4))
        assert caught.value.code == code, name
    assert (host.current, host.acts(), host.timers()) == ("1", [], [])
    assert sorted(path.name for path in host.config.iterdir()) == ["1", "by-image", "current"]


def test_secrets_travel_once_and_go_when_no_manifest_names_them(host, monkeypatch) -> None:
    monkeypatch.setenv("TOKEN_OF_APP", "s3cr3t-token-value")
    host.write_manifest(secrets={"app_token": "env:TOKEN_OF_APP"})
    assert push(host).secrets == ("app_token",)
    assert host.acts() == ["restart db.service"]
    assert push(host).changed is False
    # Another machine cannot know; it sends it, and the host sees that it has it.
    (host.settings.state_dir / "sent/rpc-1.json").unlink()
    result = push(host)
    assert (result.secrets, result.units) == (("app_token",), ())
    monkeypatch.setenv("TOKEN_OF_APP", "an0ther-token-value")
    assert push(host).units == ("db.service",)
    for path in (host.settings.state_dir / "sent").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert "token-value" not in path.read_text()
    host.acts()
    host.write_manifest()
    assert push(host).units == ("db.service",)
    assert list((host.folder / "run/state/credstore").iterdir()) == []
    assert push(host).changed is False


def test_who_else_holds_the_host_is_named(host) -> None:
    host.write_manifest(app_a=2)
    with (
        lease(host.settings, open_store(host.settings), host.name, RecordingReporter()),
        pytest.raises(ConflictError, match="rpc-1 is held by another process"),
    ):
        push(host)
    assert host.current == "1"


def test_a_push_of_an_environment_names_who_failed_and_does_the_rest(host, monkeypatch, capsys) -> None:
    cli = Cli(monkeypatch, capsys)
    monkeypatch.setattr("qtrade.cli.push.load_settings", lambda: host.settings)
    host.write_manifest(app_a=2)
    hosts = host.settings.project / "manifests/hosts"
    document = yaml.safe_load((hosts / "rpc-1.yaml").read_text())
    gone = {**document, "name": "rpc-2", "ssh": {**document["ssh"], "port": 1}}
    (hosts / "rpc-2.yaml").write_text(yaml.safe_dump(gone))
    pin_host_key(host.settings, "rpc-2", (host.server.folder / "host_key.pub").read_text())
    code, out, err = cli("push", "--env", "development", "--yes", "--json")
    first, second = json.loads(out)["hosts"]
    assert code == HostError.exit_code
    assert (first["result"]["generation"], first["result"]["units"], first["error"]) == ("2", ["app.service"], None)
    assert (second["host"], second["result"], second["error"]["class"]) == ("rpc-2", None, "HostError")
    assert "rpc-2: error: rpc-2 cannot be reached over SSH" in err
    (hosts / "rpc-3.yaml").write_text(yaml.safe_dump({**document, "name": "rpc-3", "config": {"app_x": 1}}))
    pin_host_key(host.settings, "rpc-3", (host.server.folder / "host_key.pub").read_text())
    code, out, err = cli("push", "--env", "development", "--dry-run")
    assert code == 1, "failures of several classes"
    assert out == "rpc-1: nothing to change; generation 2 of 0.1.0 is current\n"
    assert "config.app_x is no value" in err


def test_the_plan_by_the_command_line(host, monkeypatch, capsys) -> None:
    cli = Cli(monkeypatch, capsys)
    monkeypatch.setattr("qtrade.cli.push.load_settings", lambda: host.settings)
    monkeypatch.setenv("TOKEN_OF_APP", "s3cr3t-token-value")
    host.write_manifest(app_a=2, secrets={"app_token": "env:TOKEN_OF_APP"})
    plan = cli.json("push", "--host", "rpc-1", "--dry-run", "--diff")
    assert plan["values"] == [{"name": "app_a", "before": 1, "after": 2, "is_known": True}]
    assert plan["secrets"] == {"app_token": "the host does not have it"}
    assert "s3cr3t" not in json.dumps(plan)
    assert host.current == "1"
    done = cli.json("push", "--host", "rpc-1", "--yes")
    assert (done["generation"], sorted(done["units"])) == ("2", ["app.service", "db.service"])
    assert cli("push", "--host", "rpc-1")[1] == "rpc-1 generation 2; nothing to change\n"
