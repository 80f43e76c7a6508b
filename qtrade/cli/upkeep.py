"""`qtrade status`, `doctor`, `gc`, `migrate`, `version`."""

from dataclasses import asdict
from typing import Annotated

import typer

from qtrade.cli.hosts import Live
from qtrade.cli.options import AsJson, Yes
from qtrade.cli.prompts import confirm_deletion
from qtrade.errors import QtradeError
from qtrade.look import width_of
from qtrade.reporter import print_document
from qtrade.settings import Settings, load_settings

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (status, doctor, gc, migrate, version):
        app.command(command.__name__)(command)


def status(*, live: Live = False, as_json: AsJson = False) -> None:
    """Everything at a glance: hosts by environment, channels, flashes under way, drift that was told, how long keys are good.

    Reads the store and the state directory only; hosts are asked with --live.
    """
    from qtrade.upkeep.status import read_status, render_status  # noqa: PLC0415 - keeps `qtrade --help` quick

    found = read_status(load_settings(), live=live)
    if as_json:
        print_document("status", asdict(found))
    else:
        typer.echo(render_status(found, width=width_of()))


def doctor(
    *,
    online: Annotated[bool, typer.Option("--online", help="Also see who answers: hosts, BMCs, stores, Vault.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is missing on this machine and in this project, each with the command that mends it.

    Changes nothing. The exit code is 1 when something is missing; warnings leave it 0.
    """
    from qtrade.upkeep.doctor import examine, render_checks  # noqa: PLC0415 - keeps `qtrade --help` quick

    document = examine(load_settings(), online=online)
    if as_json:
        print_document("doctor", asdict(document))
    else:
        typer.echo(render_checks(document))
    if not document.ok:
        raise typer.Exit(QtradeError.exit_code)


def gc(
    *,
    days: Annotated[
        float, typer.Option("--days", min=0, help="Keep journals, logs and outputs that are younger.")
    ] = 90,
    flashes: Annotated[int, typer.Option("--flashes", min=1, help="Keep the last N flashes of each host.")] = 20,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete what the state directory has too much of: old journals, logs and outputs, what killed commands left, unused tools roots.

    What is in use stays, and so do keys, pins, leases and records of access. Images are `qtrade images gc`.
    """
    from qtrade.upkeep import collect  # noqa: PLC0415 - keeps `qtrade --help` quick
    from qtrade.upkeep.old_state import Limits  # noqa: PLC0415

    settings, limits = load_settings(), Limits(days=days, flashes=flashes)
    verdict = collect.plan(settings, limits)
    document = collect.preview(verdict)
    if not dry_run:
        if verdict.gone and not yes:
            typer.echo(collect.render_collected(document), err=True)
            confirm_deletion("gc", yes=False)
        document = collect.collect(settings, limits, verdict)
    if as_json:
        print_document("collected", document.as_json())
    else:
        typer.echo(collect.render_collected(document))


def migrate(
    *,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if a manifest is old.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Rewrite manifests of earlier schema versions in the newest one; comments and order stay.

    A manifest of an earlier version is read as it is: this is for when you want the new fields.
    """
    from qtrade.upkeep.migrate import migrate as rewrite  # noqa: PLC0415 - keeps `qtrade --help` quick
    from qtrade.upkeep.migrate import render_migrations  # noqa: PLC0415

    document = rewrite(load_settings(), dry_run=dry_run or check)
    if as_json:
        print_document("migration", asdict(document))
    else:
        typer.echo(render_migrations(document))
    if check and document.migrations:
        raise typer.Exit(QtradeError.exit_code)


def version(*, as_json: AsJson = False) -> None:
    """Print the versions of qtrade, of Python, Ansible and Packer here, and of the manifests' schemas."""
    from qtrade.upkeep.versions import read_versions, render_versions  # noqa: PLC0415 - keeps `qtrade --help` quick

    found = read_versions(_settings_or_none())
    if as_json:
        print_document("version", asdict(found))
    else:
        typer.echo(render_versions(found))


def _settings_or_none() -> Settings | None:
    try:
        return load_settings()
    except QtradeError:
        return None
