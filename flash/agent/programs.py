"""Runs the few programs of the host that the agent needs: list arguments, a deadline, and a clear error."""

from typing import Optional

from .errors import AgentError

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def run(*args: str, stdin: Optional[bytes] = None, timeout_s: float = 300, allowed: int = 0) -> str:
    """Run a program and return its output. Raises `AgentError` for an exit code over `allowed`, a timeout, or no such program."""
    import subprocess  # noqa: PLC0415 - who runs nothing starts without

    try:
        done = subprocess.run(
            args, input=stdin or b"", capture_output=True, timeout=timeout_s, env=_ENVIRONMENT, check=False
        )
    except FileNotFoundError as error:
        raise AgentError(
            "program-missing", f"{args[0]} is not installed here", "install the package that holds it"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise AgentError("program-timeout", f"{args[0]} did not end within {timeout_s:.0f} s") from error
    if done.returncode > allowed or done.returncode < 0:
        tail = done.stderr.decode(errors="replace").strip()[-500:]
        raise AgentError("program-failed", f"{' '.join(args)} ended with {done.returncode}: {tail}")
    return done.stdout.decode(errors="replace")
