"""The one door to other programs."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from qtrade import process
from qtrade.errors import ToolError, UsageError
from qtrade.redaction import register_secret

pytestmark = pytest.mark.unit

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _a_secret() -> None:
    register_secret(SECRET)


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-S", "-c", code, *args]


def sh(script: str, *args: str) -> list[str]:
    return ["sh", "-c", script, "sh", *args]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


def test_output_code_and_input_come_back() -> None:
    done = process.run(sh("cat; echo err >&2; exit 3"), stdin=b"in", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("in", "err\n", 3)


def test_the_environment_is_clean(monkeypatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("LANG", "xx_XX")
    lines = process.run(["env"], env={"MINE": "1"}).stdout.splitlines()
    names = {line.split("=")[0] for line in lines}
    assert {"PATH", "LC_ALL", "TZ", "MINE"} <= names
    assert not names & {"LD_LIBRARY_PATH", "PYTHONPATH", "LANG"}


def test_a_failure_shows_the_end_of_stderr_without_secrets() -> None:
    code = f"import sys; print('\\n'.join(f'line {{n}}' for n in range(99)), file=sys.stderr); sys.exit('{SECRET} x')"
    with pytest.raises(ToolError, match="ended with code 1") as caught:
        process.run(python(code))
    lines = caught.value.details.splitlines()
    assert lines[-2:] == ["line 98", "*** x"]
    assert len(lines) == 30


def test_a_failure_that_only_wrote_to_stdout_shows_that() -> None:
    with pytest.raises(ToolError) as caught:
        process.run(sh('echo "the password is $1"; exit 1', SECRET))
    assert caught.value.details == "the password is ***"


def test_secret_arguments_are_hidden_in_every_error() -> None:
    with pytest.raises(ToolError) as caught:
        process.run(["false", SECRET])
    assert caught.value.brief == "false *** ended with code 1"
    with pytest.raises(ToolError) as caught:
        process.run(sh("sleep 9", SECRET), timeout_s=0.05)
    assert SECRET not in caught.value.render()
    assert "took longer than" in caught.value.brief


def test_lines_come_one_by_one_while_the_program_runs_and_without_secrets(tmp_path) -> None:
    # The program ends only after its first line has arrived here.
    mark = tmp_path / "seen"
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        mark.touch()

    done = process.run(
        sh('echo "one $2"; while [ ! -e "$1" ]; do sleep 0.01; done; echo two', str(mark), SECRET),
        on_line=take,
        timeout_s=20,
    )
    assert lines == ["one ***", "two"]
    assert done.stdout == f"one {SECRET}\ntwo"


def test_stderr_comes_back_while_lines_are_followed() -> None:
    with pytest.raises(ToolError) as caught:
        process.run(sh('cat; echo "bad $1" >&2; exit 2', SECRET), on_line=lambda _: None, stdin=b"in\n")
    assert caught.value.details == "bad ***"


def test_a_program_that_does_not_read_its_input_is_no_error() -> None:
    assert process.run(["true"], stdin=b"x" * 1_000_000, on_line=lambda _: None).returncode == 0


@pytest.mark.parametrize("on_line", [None, lambda _: None], ids=["captured", "followed"])
@pytest.mark.parametrize("trap", ["", "trap '' TERM;"], ids=["meek", "stubborn"])
def test_a_timeout_leaves_no_child_of_the_program(tmp_path, on_line, trap) -> None:
    pid_file = tmp_path / "pid"
    grandchild = f'sh -c "{trap} while :; do sleep 0.05; done" & echo $! > "$1"; sleep 60'
    with pytest.raises(ToolError, match="took longer than"):
        process.run(sh(grandchild, str(pid_file)), timeout_s=0.3, on_line=on_line)
    assert gone_within(int(pid_file.read_text()), 2)


def test_work_that_took_too_long_is_told_from_work_that_failed() -> None:
    def explained(argv: list[str]) -> ToolError:
        with pytest.raises(ToolError) as caught:
            process.run(argv, timeout_s=0.3)
        return process.explain(caught.value, "the work", mend="mend it", longer="give it more time")

    slow, bad = explained(sh("sleep 9", "x")), explained(sh("echo why; exit 3", "x"))
    assert (slow.brief, slow.resolution) == ("the work took longer than 0 s and was ended", "give it more time")
    assert (bad.brief, bad.details, bad.resolution) == ("the work failed", "why", "mend it")
    missing = explained(["qtrade-no-such-program"])
    assert missing.details == "qtrade-no-such-program is not installed"


def test_no_line_comes_after_a_timeout() -> None:
    ended, lines = threading.Event(), []

    def take_slowly(line: str) -> None:
        time.sleep(0.3)
        lines.append((line, ended.is_set()))

    with pytest.raises(ToolError, match="took longer than"):
        process.run(sh("echo one; echo two; sleep 9", "x"), timeout_s=0.1, on_line=take_slowly)
    ended.set()
    time.sleep(0.7)
    assert lines == [("one", False), ("two", False)]


def test_a_missing_program_is_named_with_a_cure() -> None:
    with pytest.raises(ToolError, match="no-such-program is not installed") as caught:
        process.run(["no-such-program"])
    assert caught.value.exit_code == 5
    assert caught.value.resolution


def test_a_missing_program_of_the_background_is_named(tmp_path) -> None:
    with pytest.raises(ToolError, match="no-such-program is not installed"):
        process.spawn(["no-such-program"], log=tmp_path / "log")


def test_a_program_in_the_background_writes_its_log_and_ends_with_its_group(tmp_path) -> None:
    log = tmp_path / "log"
    child = process.spawn(sh("sleep 60 & echo $!; wait"), log=log)
    while not log.read_text().endswith("\n"):
        time.sleep(0.01)
    process.kill_group(child)
    assert child.returncode == -signal.SIGTERM
    assert gone_within(int(log.read_text()), 2)


def test_only_root_passes_the_root_check(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    process.require_root("this")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="this needs root"):
        process.require_root("this")
