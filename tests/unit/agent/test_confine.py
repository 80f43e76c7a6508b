"""When the connection was made that an agent was started over, by the processes above it."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from flash.agent import confine

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).parents[3] / "ansible/roles/bare_metal/files/usr/bin/qtrade-agent"
TICKS = os.sysconf("SC_CLK_TCK")


def add(proc, pid, name, parent, seconds):
    """Write a process's stat as proc(5) describes it: the start is the 22nd field."""
    fields = [str(pid), f"({name})", "S", str(parent), *["0"] * 17, str(seconds * TICKS), "0", "0"]
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(" ".join(fields))


@pytest.mark.parametrize("name", ["sshd", "sshd-session"])
def test_it_is_the_start_of_the_nearest_sshd(tmp_path, name):
    add(tmp_path, 1, "systemd", 0, 1)
    add(tmp_path, 10, "sshd", 1, 5)
    add(tmp_path, 20, name, 10, 100)
    add(tmp_path, 21, name, 20, 101)
    add(tmp_path, 30, "sudo ) (x y", 21, 200)
    add(tmp_path, 31, "python3", 30, 201)
    assert confine.connection_time(tmp_path, 31) == 101


def test_who_did_not_come_over_ssh_came_now(tmp_path):
    add(tmp_path, 1, "systemd", 0, 1)
    add(tmp_path, 31, "python3", 1, 201)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert now <= confine.connection_time(tmp_path, 31) <= now + 5


def test_a_live_process_is_read_as_proc_has_it():
    assert confine.connection_time(confine.Host().proc, os.getpid()) > 0


def test_the_confined_agent_is_told_who_asked_for_it(tmp_path):
    add(tmp_path, 1, "systemd", 0, 1)
    add(tmp_path, 20, "sshd-session", 1, 101)
    add(tmp_path, 31, "systemd-run", 20, 201)
    assert "--setenv=QTRADE_CALLER" in confine.render_command([], "run")
    assert confine.connected_at({"QTRADE_CALLER": "31"}, tmp_path) == 101
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    for wrong in ({}, {"QTRADE_CALLER": "x"}, {"QTRADE_CALLER": ""}):
        assert now <= confine.connected_at(wrong, tmp_path) <= now + 5


def test_the_command_of_a_boot_is_what_the_shell_runs(tmp_path, monkeypatch):
    """`/usr/bin/qtrade-agent run` takes it argument by argument, and says that it is the caller."""
    monkeypatch.setattr(confine, "_own_devices", lambda _: ["/dev/vda", "/dev/vda1"])
    host = confine.Host(run=tmp_path)
    confine.note(host)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/systemd-run"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$QTRADE_CALLER" "$$" "$@"\n')
    program.chmod(0o755)
    script = SCRIPT.read_text().replace("/run/qtrade/", f"{tmp_path}/")
    done = subprocess.run(
        ["sh", "-c", script, "qtrade-agent", "run"],
        capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
    )  # fmt: skip
    caller, own, *arguments = done.stdout.splitlines()
    assert caller == own
    assert arguments == confine.render_command(["/dev/vda", "/dev/vda1"], "run")[1:]
    assert {"--property=DeviceAllow=/dev/vda rw", "--property=DeviceAllow=block-* r"} <= set(arguments)
