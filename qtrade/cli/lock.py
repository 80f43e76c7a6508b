"""`qtrade lock`."""

from typing import Annotated

import typer

from qtrade.cli.options import AsJson, RecipeName
from qtrade.reporter import ConsoleReporter, Timings, print_document
from qtrade.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("lock")(lock)


def lock(  # noqa: PLR0913 - one parameter per option
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME[=VERSION]]...", help="With --update: components and packages to look up again."),
    ] = None,
    *,
    recipe: RecipeName = "lab",
    update: Annotated[bool, typer.Option("--update", help="Look up NAMEs again; without NAMEs, everything.")] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Only fetch and compare the bytes of the lock.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the lock fits the recipe.")] = False,
    accept_changed: Annotated[
        list[str] | None,
        typer.Option("--accept-changed", metavar="NAME", help="Take other bytes of NAME at the same version."),
    ] = None,
    pins: Annotated[
        list[str] | None,
        typer.Option(
            "--pin", metavar="NAME=VERSION", help="Hold a component, a package or its `rust`; the recipe is changed."
        ),
    ] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a role's toggle, choice or number.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the difference and write no lock.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lock every package, component and collection of a recipe by digest, and fetch them: `qtrade lock --recipe lab --update`.

    `qtrade lock --pin agave=4.2.1,rust=1.96.1` writes versions into the recipe first; a validator and a plugin that do not fit are refused.
    """
    from bake.lock import command  # noqa: PLC0415 - keeps `qtrade --help` quick
    from bake.lock.pin import Pins, parse_pairs  # noqa: PLC0415

    settings = load_settings()
    reporter = ConsoleReporter(timings=Timings(settings.state_dir / "timings.json"))
    options = command.Options(
        names=tuple(names or ()),
        update=update,
        fetch=fetch,
        check=check,
        accepted=frozenset(accept_changed or ()),
        dry_run=dry_run,
        pins=Pins(parse_pairs("--pin", tuple(pins or ())), parse_pairs("--set", tuple(values or ()))),
    )
    report = command.run(settings, recipe, options, reporter)
    if as_json:
        print_document("lock", report.document())
    else:
        typer.echo(report.text())
