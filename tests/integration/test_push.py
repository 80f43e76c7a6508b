"""Pushes to the real agent over a real SSH server: what changes, what is undone, what is refused."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flash import confirmation, push_many
from flash import push as pushing
from flash.push import Order
from qtrade import ssh_sharing
from qtrade.errors import BadInput, HostError
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
