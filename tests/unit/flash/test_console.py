"""The host's console during a flash: from a file or a command, without secrets, with its last lines in the error."""

import sys
import time
from pathlib import Path

import pytest

from flash import console
from flash.console import captured
from flash.states import State
from qtrade.errors import HostError
from qtrade.redaction import register_secret
from tests.fakes.flash import FakeContext
from tests.unit.flash.test_context import make_context

pytestmark = pytest.mark.unit

# Prints a line, and ends: as a BMC's session that runs out.
_PRINTS = "import os; print('line of', os.environ.get('HOME', 'nobody')); print('no end', end='')"


@pytest.fixture
def context(tmp_path, monkeypatch) -> FakeContext:
    monkeypatch.setattr(console, "_POLL_S", 0.02)
    monkeypatch.setattr(console, "_RESTART_S", 0.05)
    made = make_context(tmp_path, None)
    made.journal.write(State.PLANNED, {})
    return made


def of(context: FakeContext, source: object) -> Path:
    context.host = context.host.model_copy(update={"console": source})
    return context.journal.path.with_suffix(".console")


def wait_for(kept: Path, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in (kept.read_text() if kept.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert text in kept.read_text()


def test_a_host_without_a_console_has_none(context) -> None:
    kept = of(context, None)
    with captured(context):
        pass
    assert not kept.exists()


def test_only_what_is_said_during_the_flash_is_kept(context, tmp_path) -> None:
    source = tmp_path / "console.log"
    source.write_text("yesterday\n")
    register_secret("hunter2hunter2")
    kept = of(context, source)
    with captured(context), source.open("ab", buffering=0) as said:
        said.write(b"\x1b[1mBooting\x1b[0m\r\npassword hunter2hunter2\r\nhalf a ")
        wait_for(kept, "***")
        said.write(b"line")
    assert kept.read_text() == "[1mBooting[0m\npassword ***\nhalf a line\n"
    with captured(context):
        source.write_text("made anew\n")
    assert kept.read_text().endswith("half a line\nmade anew\n")


def test_a_secret_that_comes_in_two_pieces_is_hidden_too(context, tmp_path) -> None:
    source = tmp_path / "console.log"
    source.write_text("")
    register_secret("swordfish-swordfish")
    kept = of(context, source)
    with captured(context), source.open("ab", buffering=0) as said:
        said.write(b"first\nkey swordfish-")
        wait_for(kept, "first")
        said.write(b"swordfish\n")
    assert kept.read_text() == "first\nkey ***\n"


def test_a_failure_shows_the_last_lines_and_where_the_rest_is(context, tmp_path) -> None:
    source = tmp_path / "console.log"
    source.write_text("")
    kept = of(context, source)

    def fail() -> None:
        source.write_text("".join(f"line {number}\n" for number in range(40)) + "Kernel panic\n")
        raise HostError("it did not boot", details="last seen: nothing")

    with pytest.raises(HostError) as caught, captured(context):
        fail()
    lines = caught.value.details.splitlines()
    assert lines[:2] == ["last seen: nothing", f"console ({kept}):"]
    assert lines[-1] == "  Kernel panic"
    assert len(lines) == 17


def test_a_command_that_ends_is_started_again(context) -> None:
    kept = of(context, (sys.executable, "-c", _PRINTS))
    with captured(context):
        wait_for(kept, "line of")
        time.sleep(0.5)
    assert kept.read_text().count("line of") > 1


def test_a_command_that_hangs_is_ended_with_the_flash(context) -> None:
    kept = of(context, ("sh", "-c", "echo up; exec sleep 60"))
    start = time.monotonic()
    with captured(context):
        wait_for(kept, "up")
    assert time.monotonic() - start < 10


def test_a_command_that_is_not_there_is_said_in_the_file(context) -> None:
    kept = of(context, ("no-such-program",))
    with captured(context):
        wait_for(kept, "no-such-program: No such file or directory")


def test_a_console_that_floods_is_cut(context, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(console, "_LIMIT_BYTES", 1000)
    source = tmp_path / "console.log"
    source.write_text("")
    kept = of(context, source)
    with captured(context):
        source.write_text("x" * 99 + "\n" + ("y" * 99 + "\n") * 50)
        wait_for(kept, "y")
    assert kept.stat().st_size == 1000
