"""Progress goes to stderr, data to stdout, secrets to neither."""

import json

import pytest

from qtrade.redaction import register_secret
from qtrade.reporter import ConsoleReporter, Timings, print_json

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
