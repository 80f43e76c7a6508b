"""`qtrade monitors plan`, `qtrade monitors apply`."""

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import complete_environments, complete_versions
from qtrade.cli.options import AsJson, RecipeName
from qtrade.errors import Refused, UsageError
from qtrade.look import width_of
from qtrade.reporter import ConsoleReporter, print_document
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from flash.monitors import MonitorsPlan

EnvironmentName = Annotated[
    str, typer.Option("--env", help="Environment in manifests/environments.", autocompletion=complete_environments)
]
ImageVersion = Annotated[
    str | None,
    typer.Option(
        "--version",
        help="Image whose names of metrics count; where the channel leads if left out.",
        autocompletion=complete_versions,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="Alerts and dashboards.", no_args_is_help=True)
    group.command("plan")(plan)
    group.command("apply")(apply)
    app.add_typer(group, name="monitors")


def plan(
    *, env: EnvironmentName, version: ImageVersion = None, recipe: RecipeName = "lab", as_json: AsJson = False
) -> None:
    """Show what Datadog lacks, has otherwise, or has too much: `qtrade monitors plan --env production --recipe production`."""
    from flash.monitors.run import open_monitors  # noqa: PLC0415 - keeps `qtrade --help` quick

    with open_monitors(
        load_settings(), env, version, recipe=recipe, url=os.environ.get("QTRADE_DATADOG_URL")
    ) as monitors:
        _show(monitors.plan, as_json=as_json)


def apply(
    *,
    env: EnvironmentName,
    version: ImageVersion = None,
    recipe: RecipeName = "lab",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make Datadog hold what manifests/monitoring says. Touches nothing that is not tagged as ours. Run it again to go on."""
    from flash.monitors import apply_plan  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.monitors.plan import render_plan  # noqa: PLC0415
    from flash.monitors.run import open_monitors  # noqa: PLC0415

    reporter = ConsoleReporter()
    with open_monitors(
        load_settings(), env, version, recipe=recipe, url=os.environ.get("QTRADE_DATADOG_URL")
    ) as monitors:
        if dry_run:
            _show(monitors.plan, as_json=as_json)
            return
        reporter.say(render_plan(monitors.plan, width=width_of(sys.stderr)))
        if monitors.plan.to_do:
            _confirm(env, yes=yes)
        result = apply_plan(monitors.api, monitors.plan, reporter)
    if as_json:
        print_document("monitors", asdict(result))
    else:
        typer.echo(f"{result.created} created, {result.updated} updated, {result.deleted} deleted, {result.kept} kept")


def _show(found: "MonitorsPlan", *, as_json: bool) -> None:
    from flash.monitors.plan import render_plan  # noqa: PLC0415

    if as_json:
        print_document("monitors-plan", asdict(found))
    else:
        typer.echo(render_plan(found, width=width_of()))


def _confirm(env: str, *, yes: bool) -> None:
    """Ask for the environment's name. Raises `Refused`, or `UsageError` where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"change monitors of {env}: nobody can be asked", resolution="add --yes")
    if typer.prompt(f"To change the monitors of {env}, type its name", err=True) != env:
        raise Refused("that is not the environment's name; nothing was done", resolution=f"type {env}, or add --yes")
