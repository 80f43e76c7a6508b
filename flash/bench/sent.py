"""Run modules of `on_host` on a host: their text goes through SSH into its Python, which keeps nothing."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtrade.errors import HostError
from qtrade.ssh import SshTarget

_FOLDER = Path(__file__).parent / "on_host"
_PACKAGES = ("flash", "flash.bench", "flash.bench.on_host")
_LINE_BYTES = 1 << 20
_KILL_S = 5
# Reads {"modules": [[name, text], …], "asked": …}, makes the modules in that order, and calls `main` of the last.
_BOOT = """
import json, sys, types
given = json.load(sys.stdin)
for name in given["packages"]:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, text in given["modules"]:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
module.main(given["asked"])
"""


def run_on_host(
    target: SshTarget,
    modules: tuple[str, ...],
    asked: dict[str, Any],
    *,
    within_s: float,
    on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Run `main` of the last of `modules`, the earlier ones being what it imports, and return its result.

    Raises `HostError` when the host cannot be reached, or gives no result.
    """
    given = {
        "packages": _PACKAGES,
        "modules": [[f"{_PACKAGES[-1]}.{name}", (_FOLDER / f"{name}.py").read_text()] for name in modules],
        "asked": asked,
    }
    found: list[dict[str, Any]] = []

    def take(line: str) -> None:
        document = _parse(line)
        if isinstance(document.get("progress"), dict):
            on_progress(document["progress"])
        if isinstance(document.get("result"), dict):
            found[:] = [document["result"]]

    command = f"timeout -k {_KILL_S} {within_s:.0f} python3 -IBc {shlex.quote(_BOOT)}"
    code, said = target.stream(
        command, stdin=json.dumps(given).encode(), extra=(), on_line=take, timeout_s=within_s + 2 * _KILL_S + 20
    )
    if code or not found:
        raise HostError(
            f"{target.host}: {modules[-1]} gave no result (code {code})",
            details=said[-1000:],
            resolution="look whether the host has python3, and what it says above",
        )
    return found[0]


def _parse(line: str) -> dict[str, Any]:
    """Return the JSON object of a line, an empty one for any other line: a host may say what it likes."""
    try:
        document = json.loads(line[:_LINE_BYTES])
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
