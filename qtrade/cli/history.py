"""`qtrade history`."""

from dataclasses import asdict
from typing import Annotated

import typer

from qtrade.cli.complete import complete_environments, complete_hosts
from qtrade.cli.options import AsJson
from qtrade.errors import UsageError
from qtrade.reporter import print_document
from qtrade.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("history")(history)


def history(
    *,
    host: Annotated[str, typer.Option("--host", help="Only deploys of this host.", autocompletion=complete_hosts)] = "",
    env: Annotated[
        str, typer.Option("--env", help="Only deploys in this environment.", autocompletion=complete_environments)
    ] = "",
    last: Annotated[int, typer.Option("--last", min=1, help="At most this many, the newest.")] = 20,
    write: Annotated[
        bool, typer.Option("--write", help="With --env: write what its hosts run to manifests/releases.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Who deployed what, by which run, and what came of it: flashes, pushes, rollbacks and promotions, newest first.

    The record is in the store, so that it is the same from every machine. Example:

    qtrade history --env staging --last 5
    """
    from flash import history as past  # noqa: PLC0415 - keeps `qtrade --help` quick
    from qtrade.store import open_store  # noqa: PLC0415

    if write and not env:
        raise UsageError("--write writes the file of one environment", resolution="add --env NAME")
    settings = load_settings()
    store = open_store(settings)
    deploys = past.read_history(settings, store, environment=env, host=host, last=last)
    written = str(past.write_release(settings, past.make_release(settings, store, env))) if write else ""
    if as_json:
        print_document("history", asdict(past.HistoryDocument(deploys, written)))
        return
    typer.echo(past.render_history(deploys))
    if written:
        typer.echo(f"wrote {written}", err=True)
