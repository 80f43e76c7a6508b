"""`qtrade identity`: who holds a staked identity, and its hand-over."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.options import AsJson, HostName, Yes
from qtrade.cli.prompts import confirm, console
from qtrade.errors import Refused
from qtrade.reporter import print_document
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from flash.identity.command import Standing
    from flash.identity.facts import Claim

IdentityName = Annotated[
    str | None, typer.Option("--identity", help="Name in manifests/identities; else the one that the host may hold.")
]
PowerOff = Annotated[
    bool, typer.Option("--power-off-holder", help="Where the holder does not answer, have its BMC cut its power.")
]
Window = Annotated[
    float,
    typer.Option(
        "--window", min=0, help="Seconds to wait for two minutes in which the holder leads no slot; for planned moves."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show facts and verdict, and stop; exit code 7 if refused.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="The staked identity: one holder in the whole fleet.", no_args_is_help=True)
    group.command("show")(show)
    group.command("take")(take)
    group.command("release")(release)
    app.add_typer(group, name="identity")


def show(*, host: HostName, identity: IdentityName = None, as_json: AsJson = False) -> None:
    """Print who holds the identity, what its hosts and the cluster say, and whether the host could take it."""
    from flash.identity import command  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.identity.facts import Asked  # noqa: PLC0415

    settings = load_settings()
    found = command.find_identity(settings, host=host, name=identity)
    _print_standing(command.show(settings, console(settings), found, Asked(host)), as_json=as_json)


def take(  # noqa: PLR0913 - one parameter per option
    *,
    host: HostName,
    identity: IdentityName = None,
    power_off_holder: PowerOff = False,
    window: Window = 0,
    tower_lost: Annotated[
        bool,
        typer.Option("--tower-lost", help="Go on without the tower, 200 slots after the last vote at the earliest."),
    ] = False,
    without_vote_history: Annotated[
        bool, typer.Option("--without-vote-history", help="The vote account has never voted by Alpenglow's rules.")
    ] = False,
    first: Annotated[
        bool, typer.Option("--first", help="Nobody of this fleet ever held it; whoever did has stopped.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give the staked identity to a host, once whoever has it is proven to have stopped: `qtrade identity take --host val-2`."""
    from flash.identity import command  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.identity.facts import Asked  # noqa: PLC0415

    settings = load_settings()
    reporter = console(settings)
    found = command.find_identity(settings, host=host, name=identity)
    asked = Asked(host, first, tower_lost, without_vote_history)
    if dry_run:
        standing = command.show(settings, reporter, found, asked)
        _print_standing(standing, as_json=as_json)
        if not standing.verdict.is_allowed:
            raise typer.Exit(Refused.exit_code)
        return
    confirm(f"give the identity {found.name} ({found.environment}) to {host}", host, yes=yes)
    done = command.take(settings, reporter, found, asked, command.How(power_off_holder, window))
    _print_claim(done, as_json=as_json)


def release(
    *,
    host: HostName,
    identity: IdentityName = None,
    power_off_holder: PowerOff = False,
    window: Window = 0,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make a host leave the staked identity, with proof; nobody signs then: `qtrade identity release --host val-1`."""
    from flash.identity import command  # noqa: PLC0415 - keeps `qtrade --help` quick

    settings = load_settings()
    found = command.find_identity(settings, host=host, name=identity)
    confirm(f"make {host} leave the identity {found.name} ({found.environment})", host, yes=yes)
    done = command.release(settings, console(settings), found, host, command.How(power_off_holder, window))
    _print_claim(done, as_json=as_json)


def _print_claim(claim: "Claim", *, as_json: bool) -> None:
    if as_json:
        print_document("identity-claim", asdict(claim))
    else:
        typer.echo(f"{claim.identity} {claim.state} {claim.host} number {claim.number}")


def _print_standing(standing: "Standing", *, as_json: bool) -> None:
    from flash.identity.render import render_standing  # noqa: PLC0415 - keeps `qtrade --help` quick

    if as_json:
        print_document("identity", standing.as_json())
    else:
        typer.echo(render_standing(standing))
