"""`qtrade hosts prepare-disks` and `decommission`: what is done to a host's disks besides flashing it."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from qtrade.cli.complete import complete_versions
from qtrade.cli.options import AsJson, HostName
from qtrade.cli.prompts import console
from qtrade.errors import Refused, UsageError
from qtrade.reporter import print_document
from qtrade.settings import load_settings

DoorName = Annotated[
    str | None, typer.Option("--door", help="The way in; else the host's first that boots the installer.")
]
# `--yes` alone is too easily in a script's habit: what cannot be taken back wants the name.
TypedName = Annotated[str | None, typer.Option("--confirm", help="The host's name again, where nobody can be asked.")]
Version = Annotated[
    str | None,
    typer.Option(
        "--version", help="Whose installer; the newest that the host may run.", autocompletion=complete_versions
    ),
]


def add_commands(hosts: typer.Typer) -> None:
    """Add the commands of this module to `qtrade hosts`."""
    hosts.command("prepare-disks")(prepare_disks)
    hosts.command("decommission")(decommission)


def prepare_disks(
    *,
    host: HostName,
    door: DoorName = None,
    version: Version = None,
    confirm: TypedName = None,
    as_json: AsJson = False,
) -> None:
    """Format the data disks of a host that are blank, as its manifest says; a disk with anything on it stops it.

    The host boots the installer once: `qtrade hosts prepare-disks --host rpc-1`.
    """
    _carry_out("prepare_disks", host, door, version, confirm, as_json=as_json)


def decommission(
    *,
    host: HostName,
    door: DoorName = None,
    version: Version = None,
    confirm: TypedName = None,
    as_json: AsJson = False,
) -> None:
    """Wipe a host's state and secrets, and what it boots from; data and protected disks stay as they are.

    `qtrade hosts decommission --host rpc-1`. Remove its manifest afterwards.
    """
    _carry_out("decommission", host, door, version, confirm, as_json=as_json)


def _carry_out(
    kind: str, host: str, door: str | None, version: str | None, confirm: str | None, *, as_json: bool
) -> None:
    from flash import maintenance, run  # noqa: PLC0415 - keeps `qtrade --help` quick

    settings = load_settings()
    reporter = console(settings)
    context, _ = run.prepare(settings, host, version, reporter, door=run.parse_door(door))
    chosen = maintenance.choose_door(context, run.parse_door(door))
    for disk in (*context.host.data_disks, *context.host.protected_disks):
        reporter.say(f"disk: {disk.model_dump(exclude_none=True)}")
    _ask(kind, host, confirm)
    act = {"prepare_disks": maintenance.prepare_disks, "decommission": maintenance.decommission}[kind]
    done = act(context, chosen)
    if as_json:
        print_document("disk-work", asdict(done))
    else:
        typer.echo(f"{done.host} {done.kind}: {done.evidence}")


def _ask(kind: str, host: str, confirm: str | None) -> None:
    """Let the host's name be typed. Raises `Refused`, or `UsageError` where nobody can be asked."""
    if confirm is None:
        if not sys.stdin.isatty():
            raise UsageError(f"{kind} {host}: nobody can be asked", resolution=f"add --confirm {host}")
        confirm = typer.prompt(f"To {kind.replace('_', ' ')} {host}, type its name", err=True)
    if confirm != host:
        raise Refused(
            "that is not the host's name; nothing was done", resolution="type it as it stands in the manifest"
        )
