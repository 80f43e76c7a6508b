"""People on hosts over real SSH: the pinned key holds, a change of it is a person's to accept, and each use is on record."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flash.drift.look import choose_hosts, look_at_all
from flash.drift.page import render_page
from flash.drift.report import document, render_text
from flash.host_keys import fingerprint, read_pinned
from flash.manual_access import recent
from flash.ssh import known_hosts_path
from qtrade import process, ssh_sharing
from tests.fakes.documents import fields_of
from tests.fakes.examples import make_settings
from tests.fakes.projects import write_project
from tests.fakes.pushed_host import PushedHost, run_pushed_host

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

QTRADE = Path(sys.executable).parent / "qtrade"
OUTPUT = "what-the-host-shows-to-the-person"


@pytest.fixture
def host(tmp_path) -> Iterator[PushedHost]:
    with tempfile.TemporaryDirectory(prefix="q") as short:
        settings = make_settings(Path(short))
        with run_pushed_host(settings, tmp_path / "host") as running:
            write_manifests(running)
            yield running
            ssh_sharing.close_all()


def write_manifests(host: PushedHost, environment: str = "development", **fields: object) -> None:
    ssh = {"identity_file": str(host.server.identity), "port": host.wire.port, "user": "root", "operator": "root"}
    own = {
        "address": "127.0.0.1",
        "ssh": ssh,
        "driver": {"kind": "ssh"},
        "doors": ["in_place"],
        "netboot": None,
        **fields,
    }
    write_project(host.settings, host={**own, "environment": environment}, environment={"monitor_set": "none"})
    rules = {"schema_version": 1, "name": "production", "monitor_set": "none"}
    (host.settings.project / "manifests/environments/production.yaml").write_text(yaml.safe_dump(rules))


def qtrade(host: PushedHost, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [QTRADE, *args], env=environment(host, **more), capture_output=True, text=True, timeout=60, check=False
    )


def environment(host: PushedHost, **more: str) -> dict[str, str]:
    settings = host.settings
    folders = {"PROJECT": settings.project, "STATE_DIR": settings.state_dir, "STORE": settings.store}
    return {**os.environ, **{f"QTRADE_{name}": str(folder) for name, folder in folders.items()}, **more}


def at_terminal(host: PushedHost, typed: str, *args: str) -> tuple[int, str]:
    """Run qtrade at a terminal, type a line when it asks, and return its exit code and all that was on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(QTRADE, [str(QTRADE), *args], environment(host))
    screen, deadline, is_typed = b"", time.monotonic() + 60, False
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                screen += os.read(terminal, 4096)
            except OSError:
                break
        if b"it shows" in screen and not is_typed:
            os.write(terminal, f"{typed}\n".encode())
            is_typed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


def test_a_command_runs_as_the_operator_and_is_on_record_without_what_it_said(host) -> None:
    done = qtrade(
        host,
        "ssh",
        "rpc-1",
        "--reason",
        "disk alert",
        "--",
        "sh",
        "-c",
        f"echo {OUTPUT} | tr a-z A-Z; exit 3",
        SUDO_USER="alice",
    )
    assert (done.returncode, done.stdout) == (3, f"{OUTPUT.upper()}\n"), done.stderr
    (use,) = recent(host.settings, "rpc-1", now=time.time())
    assert (use.who, use.how, use.account, use.reason, use.code) == ("alice", "ssh", "root", "disk alert", 3)
    assert use.command.startswith("sh -c ")
    path = host.settings.state_dir / "access/rpc-1.jsonl"
    assert OUTPUT.upper() not in path.read_text()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_drift_report_tells_who_was_there(host) -> None:
    qtrade(host, "ssh", "rpc-1", "--reason", "look <b>around</b>", "--", "true", SUDO_USER="alice")
    qtrade(host, "logs", "rpc-1", "--unit", "agave.service", SUDO_USER="bob")
    reports = look_at_all(host.settings, choose_hosts(host.settings, "rpc-1", None))
    text = render_text(reports)
    assert "alice, ssh as root: look <b>around</b> (true; code 0)" in text
    assert "bob, logs as root: no reason given (journalctl --no-pager --unit=agave.service --lines=200; code 0)" in text
    assert [one["who"] for one in document(reports)["hosts"][0]["accesses"]] == ["alice", "bob"]
    assert "look &lt;b&gt;around&lt;/b&gt;" in render_page(reports)
    assert "recent" not in {str(one.kind) for one in reports[0].findings}
    # After a week it is history.
    assert recent(host.settings, "rpc-1", now=time.time() + 8 * 86400) == ()


def test_logs_show_a_units_journal_and_take_no_other_words(host) -> None:
    done = qtrade(host, "logs", "rpc-1", "--unit", "agave.service", "--lines", "5", "--follow")
    assert done.stdout == "journal: --no-pager --unit=agave.service --lines=5 --follow\n"
    done = qtrade(host, "logs", "rpc-1", "--unit", "x; reboot")
    assert (done.returncode, "is no name of a unit" in done.stderr) == (2, True)


def test_ctrl_c_ends_what_is_followed_and_is_no_failure_of_ssh(host) -> None:
    host.server.stop()
    (host.folder / "bin/journalctl").write_text("#!/bin/sh\necho begins\nexec sleep 60\n")
    host.server.start()
    command = [QTRADE, "logs", "rpc-1", "--unit", "agave.service", "--follow"]
    child = subprocess.Popen(
        command, env=environment(host), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"begins\n"
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert (child.returncode, b"error" in err) == (130, False), err
    (use,) = recent(host.settings, "rpc-1", now=time.time())
    assert use.code == -signal.SIGINT


def test_the_console_is_the_one_of_the_manifest(host) -> None:
    write_manifests(host, console=["sh", "-c", "echo login: # password-of-the-bmc"])
    done = qtrade(host, "console", "rpc-1", "--reason", "no answer")
    assert (done.returncode, done.stdout) == (0, "login:\n")
    assert "password-of-the-bmc" not in (host.settings.state_dir / "access/rpc-1.jsonl").read_text()
    write_manifests(host)
    done = qtrade(host, "console", "rpc-1")
    assert (done.returncode, "names no console" in done.stderr) == (4, True)


def test_production_wants_a_reason(host) -> None:
    write_manifests(host, "production")
    done = qtrade(host, "ssh", "rpc-1", "--", "true")
    assert (done.returncode, "--reason" in done.stderr) == (2, True)
    assert qtrade(host, "ssh", "rpc-1", "--reason", "INC-7", "--", "true").returncode == 0
    assert len(recent(host.settings, "rpc-1", now=time.time())) == 1


def test_a_persons_own_key_is_used_and_has_to_be_private(host, tmp_path) -> None:
    own = tmp_path / "own"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", own])
    refused = qtrade(host, "ssh", "rpc-1", "--", "true", QTRADE_SSH_IDENTITY=str(own))
    assert (refused.returncode, "qtrade hosts test --host rpc-1" in refused.stderr) == (9, True)
    authorized = host.server.folder / "authorized"
    authorized.write_text(authorized.read_text() + own.with_suffix(".pub").read_text())
    assert qtrade(host, "ssh", "rpc-1", "--", "true", QTRADE_SSH_IDENTITY=str(own)).returncode == 0
    own.chmod(0o644)
    refused = qtrade(host, "ssh", "rpc-1", "--", "true", QTRADE_SSH_IDENTITY=str(own))
    assert (refused.returncode, "chmod 600" in refused.stderr) == (7, True)


def pin_another(host: PushedHost) -> tuple[str, str]:
    """Pin a key that the host does not have; return that one and the host's own."""
    path = known_hosts_path(host.settings, "rpc-1")
    own = read_pinned(host.settings, "rpc-1")
    path.write_text(f"rpc-1 {' '.join((host.server.folder / 'user_key.pub').read_text().split()[:2])}\n")
    return read_pinned(host.settings, "rpc-1"), own


def test_keys_are_shown_and_a_changed_one_stops_everything(host) -> None:
    shown = fields_of(qtrade(host, "hosts", "keys", "--host", "rpc-1", "--json").stdout)
    said = process.run(["ssh-keygen", "-lf", host.server.folder / "host_key.pub"]).stdout.split()[1]
    assert shown == {"host": "rpc-1", "pinned": said, "offered": said, "same": True}
    other, _ = pin_another(host)
    before = host.server.connections
    done = qtrade(host, "hosts", "keys", "--host", "rpc-1")
    assert (done.returncode, fingerprint(other) in done.stdout, said in done.stdout) == (6, True, True)
    assert "at the host's console" in done.stderr
    for command in (
        ["ssh", "rpc-1", "--", "true"],
        ["push", "--host", "rpc-1", "--yes"],
        ["hosts", "test", "--host", "rpc-1"],
    ):
        done = qtrade(host, *command)
        assert done.returncode in (6, 9), done
        assert "qtrade hosts keys --host rpc-1" in done.stderr
    assert host.server.connections == before


def test_another_key_is_pinned_only_once_its_fingerprint_was_typed(host) -> None:
    other, own = pin_another(host)
    done = qtrade(host, "hosts", "keys", "--host", "rpc-1", "--accept")
    assert (done.returncode, "nobody can be asked" in done.stderr) == (2, True)
    code, screen = at_terminal(host, fingerprint(other), "hosts", "keys", "--host", "rpc-1", "--accept")
    assert (code, "the pinned key stays" in screen) == (6, True)
    # What has to come from the host is not to be copied from the screen.
    assert fingerprint(own) not in screen
    assert read_pinned(host.settings, "rpc-1") == other
    code, screen = at_terminal(host, fingerprint(own), "hosts", "keys", "--host", "rpc-1", "--accept")
    assert code == 0, screen
    assert read_pinned(host.settings, "rpc-1") == own
    uses = recent(host.settings, "rpc-1", now=time.time())
    assert [(use.how, use.code) for use in uses] == [("keys", None), ("keys", 0)]
    assert uses[-1].command == f"pin {fingerprint(own)} in place of {fingerprint(other)}"
    assert qtrade(host, "ssh", "rpc-1", "--", "true").returncode == 0


def test_the_way_in_is_tried_part_by_part(host) -> None:
    done = qtrade(host, "hosts", "test", "--host", "rpc-1", "--json")
    assert done.returncode == 0, done.stderr
    assert [(one["name"], one["error"]) for one in json.loads(done.stdout)["checks"]] == [
        ("own key", None), ("host key", None), ("agent", None), ("operator", None),
    ]  # fmt: skip
    (host.server.folder / "authorized").write_text("")
    ssh_sharing.close_all()
    done = qtrade(host, "hosts", "test", "--host", "rpc-1", "--json")
    checks = {one["name"]: one["error"] for one in json.loads(done.stdout)["checks"]}
    assert [name for name, error in checks.items() if error] == ["agent", "operator"]
    known_hosts_path(host.settings, "rpc-1").unlink()
    done = qtrade(host, "push", "--host", "rpc-1", "--yes")
    assert (done.returncode, "has no pinned SSH host key" in done.stderr) == (9, True)
