"""Progress goes to stderr, data to stdout, secrets to neither."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from typing import Any

import pytest

from qtrade.errors import Refused
from qtrade.redaction import register_secret
from qtrade.reporter import ConsoleReporter, Timings, print_json, write_error

pytestmark = pytest.mark.unit

ESCAPE = "\x1b"


def test_progress_never_touches_stdout_and_is_plain_in_a_pipe(capsys) -> None:
    reporter = ConsoleReporter()
    reporter.say("[1/2] [bold]not markup[/bold] :smile:")
    with reporter.step("layer app"):
        pass
    with reporter.transfer("layers", 5_000_000) as advance:
        advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert ESCAPE not in err
    lines = err.splitlines()
    assert lines[0] == "[1/2] [bold]not markup[/bold] :smile:"
    assert lines[1] == "… layer app"
    assert lines[2].startswith("✓ layer app 0.")
    assert lines[3] == "… layers: 5.0 MB"


def test_a_long_line_stays_one_line(capsys) -> None:
    ConsoleReporter().say("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"


def test_quiet_says_nothing(capsys) -> None:
    ConsoleReporter(quiet=True).say("x")
    assert capsys.readouterr() == ("", "")


def test_a_step_that_fails_is_not_ticked(capsys, tmp_path) -> None:
    timings = Timings(tmp_path / "timings.json")
    with pytest.raises(ValueError, match="boom"), ConsoleReporter(timings=timings).step("layer app"):
        raise ValueError("boom")
    assert capsys.readouterr().err == "… layer app\n"
    assert timings.expected_s("layer app") is None


def test_a_step_says_how_long_it_took_last_time(capsys, tmp_path) -> None:
    path = tmp_path / "state" / "timings.json"
    Timings(path).record("layer app", 12.3)
    with ConsoleReporter(timings=Timings(path)).step("layer app"):
        pass
    assert capsys.readouterr().err.startswith("… layer app (about 12 s)\n")


def test_a_damaged_file_of_timings_is_forgotten(tmp_path) -> None:
    path = tmp_path / "timings.json"
    path.write_text("{")
    assert Timings(path).expected_s("x") is None


def test_secrets_are_hidden_on_both_ways(capsys) -> None:
    register_secret("correct-horse-battery")
    ConsoleReporter().say("password correct-horse-battery")
    print_json({"password": "correct-horse-battery"})
    out, err = capsys.readouterr()
    assert err == "password ***\n"
    assert json.loads(out) == {"password": "***"}


@pytest.fixture
def as_json(monkeypatch) -> None:
    monkeypatch.setenv("QTRADE_LOG", "json")


def lines(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one.pop("time")) for one in found)
    for one in found:
        one.pop("seconds", None)
    return found


def test_a_log_for_machines_is_one_object_a_line(as_json, capsys, tmp_path) -> None:
    register_secret("correct-horse-battery")
    reporter = ConsoleReporter(timings=Timings(tmp_path / "timings.json"))
    reporter.say("two lines\nof correct-horse-battery")
    reporter.say("warning: the clock is off")
    with reporter.step("layer app"), reporter.transfer("blobs", 10) as advance:
        advance(1)
    with pytest.raises(ValueError, match="boom"), reporter.step("layer top"):
        raise ValueError("boom")
    out, err = capsys.readouterr()
    assert out == ""
    assert lines(err) == [
        {"level": "info", "event": "said", "text": "two lines\nof ***"},
        {"level": "warning", "event": "said", "text": "the clock is off"},
        {"level": "info", "event": "began", "step": "layer app"},
        {"level": "info", "event": "began", "step": "blobs", "total_bytes": 10},
        {"level": "info", "event": "ended", "step": "layer app"},
        {"level": "info", "event": "began", "step": "layer top"},
        {"level": "error", "event": "failed", "step": "layer top"},
    ]


def test_an_error_for_machines_is_one_object(as_json, capsys) -> None:
    write_error(Refused("no", details="since\nyes", resolution="ask"))
    assert lines(capsys.readouterr().err) == [
        {
            "level": "error", "event": "error", "error": "Refused", "exit_code": 7,
            "brief": "no", "details": "since\nyes", "resolution": "ask",
        }
    ]  # fmt: skip


PROGRAM = """
from qtrade.reporter import ConsoleReporter
reporter = ConsoleReporter()
with reporter.step("layer with a name that is longer than the line has columns, and then some"):
    with reporter.transfer("blobs", 1000) as advance:
        advance(500)
        import time; time.sleep(0.3)
reporter.say("done")
"""


def on_terminal(columns: int, **environment: str) -> str:
    """Run the program on a terminal of its own, and return what it wrote there."""
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": ".", "TERM": "xterm", "COLUMNS": str(columns), **environment}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    ) as child:
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            written += piece
    os.close(ours)
    assert child.returncode == 0, written
    return written.decode()


def drawn(text: str) -> list[str]:
    """Return the lines that were drawn, without what moves the cursor and colours."""
    return [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)) if line.strip()]


def test_a_narrow_terminal_is_not_wrapped_and_keeps_the_figures() -> None:
    found = drawn(on_terminal(40))
    # A line that is said is the terminal's to wrap: it may be copied whole.
    redrawn = [line.rstrip() for line in found if not line.startswith("\u2713")]
    assert max(map(len, redrawn)) <= 40, found
    assert any(re.fullmatch(r"blobs +0:00:0\d 50 %", line) for line in redrawn), found
    assert any(re.fullmatch(r"layer with .*\u2026 0:00:0\d", line) for line in redrawn), found


def test_no_colour_where_nobody_wants_any() -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]m")
    assert colour.search(on_terminal(100))
    assert not colour.search(on_terminal(100, NO_COLOR="1"))


def test_a_terminal_that_cannot_redraw_gets_plain_lines() -> None:
    assert "\x1b" not in on_terminal(100, TERM="dumb")
