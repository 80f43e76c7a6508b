"""`qtrade drift`."""

from typing import Annotated

import typer

from qtrade.cli.bake import AsJson
from qtrade.errors import UsageError
from qtrade.reporter import print_json
from qtrade.settings import load_settings

# Of every command that compares (docs/architecture.md, "Drift"); a wrong command line has it too.
DRIFTED = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("drift")(drift)


def drift(
    *,
    host: Annotated[str | None, typer.Option("--host", help="Host in manifests/hosts, or a lab host.")] = None,
    env: Annotated[str | None, typer.Option("--env", help="All hosts of this environment.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how hosts differ from image, manifests and last push: `qtrade drift --host rpc-1`. Changes nothing. Exit code 2: they do."""
    from flash.drift.look import choose_hosts, look_at_all  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.drift.report import document, render_text  # noqa: PLC0415

    if (host is None) == (env is None):
        raise UsageError("exactly one of --host and --env is needed", resolution="name a host, or an environment")
    settings = load_settings()
    reports = look_at_all(settings, choose_hosts(settings, host, env))
    if as_json:
        print_json(document(reports))
    else:
        typer.echo(render_text(reports))
    if any(report.drifted for report in reports):
        raise typer.Exit(DRIFTED)
