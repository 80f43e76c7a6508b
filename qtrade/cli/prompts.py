"""What commands on hosts share: their options, their reporter, and the question before something is done to a host."""

import sys
from typing import TYPE_CHECKING

import typer

from qtrade.errors import Refused, UsageError
from qtrade.reporter import ConsoleReporter, Timings
from qtrade.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtrade.manifest import Host
    from qtrade.manifest.driver import Door

# Of a larger fleet nobody reads all names before typing.
_NAMED = 40


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
        raise Refused(
            "that is not the host's name; nothing was done", resolution="type it as it stands in the manifest"
        )


def confirm_deletion(what: str, *, yes: bool) -> None:
    """Ask whether what was shown may be deleted. Raises `Refused`, or `UsageError` where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: nobody can be asked", resolution="add --yes, or --dry-run to see only")
    if not typer.confirm("Delete these?", err=True):
        raise Refused("nothing was deleted", resolution="answer y, or add --yes")


def confirm_erasure(host: "Host", door: "Door", *, disposable: str | None) -> bool:
    """Say whether the provider may erase the host's disks: its name was given, or is typed now where the door needs that.

    `--yes` does not cover it. Raises `Refused`, or `UsageError` where nobody can be asked.
    """
    from qtrade.manifest.driver import wipes  # noqa: PLC0415 - keeps `qtrade --help` quick

    if disposable is not None and disposable != host.name:
        raise Refused(
            f"--disposable {disposable} is not this host's name; nothing was done",
            resolution=f"write --disposable {host.name}",
        )
    if disposable is not None or not wipes(host.driver.kind, door):
        return disposable is not None
    what = f"have {host.driver.kind} ERASE ALL DISKS of {host.name} and flash it"
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: nobody can be asked", resolution=f"add --disposable {host.name}")
    confirm(what, host.name, yes=False)
    return True


def confirm_fleet(what: str, environment: str, hosts: "Sequence[str]", *, yes: bool) -> None:
    """Ask for the environment's name, naming what is touched. Raises `Refused`, or `UsageError` where nobody can be asked."""
    if yes:
        return
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    touched = f", which touches {len(hosts)} host(s): {', '.join(hosts[:_NAMED])}{more}" if hosts else ""
    if not sys.stdin.isatty():
        raise UsageError(f"{what} in {environment}: nobody can be asked", resolution="add --yes")
    if typer.prompt(f"To {what} in {environment}{touched}, type the environment's name", err=True) != environment:
        raise Refused(
            "that is not the environment's name; nothing was done", resolution="type it as it stands in --env"
        )
