"""When the connection was made that an agent was started over, by the processes above it."""

import os
import time

import pytest

from flash.agent import confine

pytestmark = pytest.mark.unit

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


def test_the_confined_agent_is_told(monkeypatch):
    command = confine.render_command([], "run", connected_at=12.345)
    assert "--setenv=QTRADE_CONNECTED_AT=12.35" in command or "--setenv=QTRADE_CONNECTED_AT=12.34" in command
    assert confine.connected_at({"QTRADE_CONNECTED_AT": "12.34"}) == 12.34
    for wrong in ({}, {"QTRADE_CONNECTED_AT": "x"}):
        assert confine.connected_at(wrong) > 0
