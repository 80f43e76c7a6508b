"""`qtrade judge`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from qtrade.cli.complete import complete_environments
from qtrade.cli.options import AsJson
from qtrade.look import width_of
from qtrade.reporter import print_document
from qtrade.settings import load_settings

# Codes beyond those of errors: a judgement is no error.
CODES = {"pass": 0, "fail": 10, "inconclusive": 11}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("judge")(judge)


def judge(
    record: Annotated[Path, typer.Argument(help="File of JSON lines that a rollout recorded.")],
    *,
    env: Annotated[
        str, typer.Option("--env", help="Judge by the gates of this environment.", autocompletion=complete_environments)
    ],
    until: Annotated[
        float | None,
        typer.Option("--until", help="Judge as of this moment, in Unix seconds; the last sample's if left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a record once more: `qtrade judge soak.jsonl --env production`. Asks no host; the same record gives the same judgement.

    Exit code 0: every gate passes; 10: one fails; 11: none fails, but one is inconclusive, as where data are missing.
    """
    from flash.judge.report import render_judgement, replay  # noqa: PLC0415 - keeps `qtrade --help` quick
    from qtrade.manifest import load_environment_named  # noqa: PLC0415

    gates = load_environment_named(load_settings(), env).gates
    found = replay(record, env, gates, until=until)
    if as_json:
        print_document("judgement", asdict(found))
    else:
        typer.echo(render_judgement(found, width=width_of()))
    if CODES[found.verdict]:
        raise typer.Exit(CODES[found.verdict])
