"""What commands on hosts share: their options, their reporter, and the question before something is done to a host."""

import sys
from typing import Annotated

import typer

from qtrade.errors import Refused, UsageError
from qtrade.reporter import ConsoleReporter, Timings
from qtrade.settings import Settings

HostName = Annotated[str, typer.Option("--host", help="Host in manifests/hosts, or a lab host.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def console(settings: Settings) -> ConsoleReporter:
    """Return what shows progress to people."""
    return ConsoleReporter(timings=Timings(settings.state_dir / "timings.json"))


def confirm(what: str, host: str, *, yes: bool) -> None:
    """Ask for the host's name. Raises `Refused`, or `UsageError` where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: nobody can be asked", resolution="add --yes")
    if typer.prompt(f"To {what}, type the host's name", err=True) != host:
        raise Refused("that is not the host's name; nothing was done")
