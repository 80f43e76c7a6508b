"""The one door to other programs: list arguments, clean environment, time limit, redaction, captured tail."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qtrade.errors import ToolError, UsageError
from qtrade.redaction import redact

CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("HOME", "TERM", "TMPDIR", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
_TAIL_LINES = 30
_running: set[subprocess.Popen[bytes]] = set()
_LINE_CHARACTERS = 1500
# Before a command: it has mounts, processes, host name and shared memory of its own, and the kernel ends all of it when this process dies.
_OWN = ("--mount", "--pid", "--uts", "--ipc")
_DIES = ("setpriv", "--pdeathsig", "KILL", "--")
DIES_WITH_US = (*_DIES[:-1], "unshare", *_OWN, "--fork", "--kill-child", "--")


# Debian's packages of the programs that machines may lack.
_PACKAGES = {
    **dict.fromkeys(("ssh", "ssh-keygen", "ssh-keyscan"), "openssh-client"),
    **dict.fromkeys(("unshare", "nsenter", "script"), "util-linux"),
    **dict.fromkeys(("mount", "umount"), "mount"),
    "dnsmasq": "dnsmasq-base",
    "git": "git",
    "gpg": "gpg",
    "gpgv": "gpgv",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "sfdisk": "fdisk",
}


class TookTooLong(ToolError):
    """A program did not end within `timeout_s` seconds, and was killed."""

    def __init__(self, brief: str, *, timeout_s: float) -> None:
        super().__init__(brief)
        self.timeout_s = timeout_s


@dataclass(frozen=True)
class Completed:
    """A program that ended: its arguments, exit code and decoded output."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the small environment that programs get, with `extra` on top."""
    env = {"PATH": CLEAN_PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    env.update({name: os.environ[name] for name in _KEPT if name in os.environ})
    env.update(extra or {})
    return env


def run(  # noqa: PLR0913 - the one door takes all the options
    argv: Sequence[str | Path],
    *,
    timeout_s: float = 600,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program to its end and return what it said.

    `on_line` gets each redacted line of stdout as it comes. Raises `ToolError` when the program is missing, takes longer
    than `timeout_s` (its whole process group is then killed) or, with `check`, ends with another code than 0.
    """
    args = [str(arg) for arg in argv]
    try:
        child = subprocess.Popen(
            args,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_env(env),
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        missing = error.filename or args[0]
        raise _not_installed(missing) from error
    _running.add(child)
    try:
        stdout, stderr = _communicate(child, stdin=stdin, timeout_s=timeout_s, on_line=on_line)
    except subprocess.TimeoutExpired as error:
        raise TookTooLong(f"{_shown(args)} took longer than {timeout_s:.0f} s", timeout_s=timeout_s) from error
    finally:
        kill_group(child)
        _running.discard(child)
    done = Completed(tuple(args), child.returncode, stdout, stderr)
    if check and done.returncode != 0:
        raise failed(done)
    return done


def _not_installed(program: str) -> ToolError:
    package = _PACKAGES.get(Path(program).name)
    cure = f"install it: `apt-get install {package}`" if package else "install the program"
    return ToolError(
        f"{program} is not installed", resolution=f"{cure}, or run `make setup` in a checkout for all there is"
    )


def failed(done: Completed) -> ToolError:
    """Return the error that describes a program that ended badly."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_TAIL_LINES:]
    output = [line if len(line) <= _LINE_CHARACTERS else f"{line[:_LINE_CHARACTERS]}…" for line in lines]
    return ToolError(f"{_shown(done.argv)} ended with code {done.returncode}", details=redact("\n".join(output)))


def explain(error: ToolError, what: str, *, mend: str, longer: str) -> ToolError:
    """Return the error of a piece of work whose program failed: `mend` says how to mend it, `longer` what to do where time was short."""
    if isinstance(error, TookTooLong):
        return ToolError(
            f"{what} took longer than {error.timeout_s:.0f} s and was ended", details=error.details, resolution=longer
        )
    return ToolError(f"{what} failed", details=error.details or error.brief, resolution=mend)


def end_running() -> None:
    """End all programs that `run` waits for in other threads: after Ctrl-C nobody wants to wait for them."""
    for child in tuple(_running):
        kill_group(child)


def attach(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> int:
    """Run a program on this process's own terminal and return its exit code. Ctrl-C is the program's, not ours: we are only told."""
    args = [str(arg) for arg in argv]
    kept = signal.signal(signal.SIGINT, lambda *_: on_interrupt())  # not SIG_IGN, which the program would inherit
    try:
        return subprocess.run(args, env=clean_env(env), check=False).returncode
    except FileNotFoundError as error:
        raise _not_installed(args[0]) from error
    finally:
        signal.signal(signal.SIGINT, kept)


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    new_session: bool = True,
    dies_with_us: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a long-lived program whose output goes to `log`. The caller ends it; with `dies_with_us` the kernel does if the caller cannot.

    That holds as long as the program keeps its user and group.
    """
    with log.open("ab") as sink:
        try:
            return subprocess.Popen(
                [*(_DIES if dies_with_us else ()), *(str(arg) for arg in argv)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=clean_env(env),
                start_new_session=new_session,
            )
        except FileNotFoundError as error:
            raise _not_installed(str(argv[0])) from error


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """End `child` and its process group if it still runs: SIGTERM, three seconds, SIGKILL for all that is left."""
    if child.poll() is not None:
        return
    for sign, grace_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _communicate(
    child: subprocess.Popen[bytes],
    *,
    stdin: bytes | None,
    timeout_s: float,
    on_line: Callable[[str], None] | None,
) -> tuple[str, str]:
    if on_line is None:
        try:
            out, err = child.communicate(stdin, timeout=timeout_s)
        finally:
            _close_pipes(child)
        return out.decode(errors="replace"), err.decode(errors="replace")
    lines: list[str] = []

    def follow() -> None:
        assert child.stdout is not None  # noqa: S101 - opened with PIPE above
        with child.stdout:
            for raw in child.stdout:
                line = raw.decode(errors="replace").rstrip("\n")
                lines.append(line)
                on_line(redact(line))

    errors: list[bytes] = []

    def drain() -> None:
        assert child.stderr is not None  # noqa: S101 - opened with PIPE above
        with child.stderr:
            errors.append(child.stderr.read())

    threads = [threading.Thread(target=follow, daemon=True), threading.Thread(target=drain, daemon=True)]
    for thread in threads:
        thread.start()
    if stdin is not None and child.stdin is not None:
        with suppress(BrokenPipeError), child.stdin:
            child.stdin.write(stdin)
    try:
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        kill_group(child)  # so that nothing more comes when this has ended
        _join(threads)
        raise
    _join(threads)
    return "\n".join(lines), b"".join(errors).decode(errors="replace")


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)


def _shown(argv: Sequence[str]) -> str:
    return redact(" ".join(argv if len(argv) <= 6 else [*argv[:6], "…"]))


def require_root(what: str) -> None:
    """Raise `UsageError` unless this process is root."""
    if os.geteuid() != 0:
        raise UsageError(f"{what} needs root", resolution="run the same command with sudo")


def as_root(command: str) -> str:
    """Return a command that needs root as a person types it here: root itself may not have sudo."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def beside_python(name: str) -> str:
    """Return the program `name` of this interpreter's own environment."""
    return str(Path(sys.executable).parent / name)
