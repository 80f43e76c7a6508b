"""Reading a console that grows: offsets, escape sequences, failures."""

from pathlib import Path

import pytest

from qtrade.errors import HostError
from qtrade.machine.console import Console, clean_text

pytestmark = pytest.mark.unit


def test_escape_sequences_go() -> None:
    raw = b"\x1bc\x1b[?7l\x1b[2J\x1b[1;31mred\x1b[0m\r\n\x1b]0;title\x07done\x00"
    assert clean_text(raw) == "red\ndone"


def test_old_text_is_not_found(tmp_path: Path) -> None:
    console = Console(tmp_path / "log")
    assert console.offset() == 0
    assert console.read() == ""
    console.path.write_bytes(b"login: ")
    offset = console.offset()
    assert console.wait_for("login:", timeout_s=0).text == "login:"
    with pytest.raises(HostError, match="did not say"):
        console.wait_for("login:", offset=offset, timeout_s=0)
    console.path.write_bytes(b"login: again login: ")
    assert console.wait_for("login:", offset=offset, timeout_s=0).end_offset == 20


def test_a_sign_of_failure_ends_the_wait(tmp_path: Path) -> None:
    console = Console(tmp_path / "log")
    console.path.write_bytes(b"Kernel panic - not syncing")
    with pytest.raises(HostError, match="Kernel panic") as caught:
        console.wait_for("login:", timeout_s=60, fails="Kernel panic")
    assert "not syncing" in caught.value.details


def test_a_dead_machine_ends_the_wait(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="ended before"):
        Console(tmp_path / "log").wait_for("login:", timeout_s=60, is_alive=lambda: False)
