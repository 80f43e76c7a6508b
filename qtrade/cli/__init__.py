"""The command line. Functions here parse, load, call one domain function and print; no logic."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from qtrade import __version__
from qtrade.cli import bake as bake_commands
from qtrade.cli import bench as bench_commands
from qtrade.cli import config as config_commands
from qtrade.cli import drift as drift_commands
from qtrade.cli import flash as flash_commands
from qtrade.cli import history as history_commands
from qtrade.cli import hosts as host_commands
from qtrade.cli import identity as identity_commands
from qtrade.cli import images as images_commands
from qtrade.cli import init as init_commands
from qtrade.cli import inspect as inspect_commands
from qtrade.cli import judge as judge_commands
from qtrade.cli import keys as key_commands
from qtrade.cli import lab as lab_commands
from qtrade.cli import lock as lock_commands
from qtrade.cli import monitors as monitor_commands
from qtrade.cli import output as output_commands
from qtrade.cli import release as release_commands
from qtrade.cli import rollout as rollout_commands
from qtrade.cli import schema as schema_commands
from qtrade.cli import secrets as secret_commands
from qtrade.cli import staging as staging_commands
from qtrade.cli import upkeep as upkeep_commands
from qtrade.cli import workflow as workflow_commands
from qtrade.cli.examples import add_examples
from qtrade.cli.faults import ABORTED, PARSER_ERRORS, explain_system, explain_usage
from qtrade.errors import QtradeError, Refused
from qtrade.log import VARIABLE, check_format
from qtrade.reporter import tell, write_error

# What typer makes of Ctrl-C.
_INTERRUPTED = 130

app = typer.Typer(
    name="qtrade",
    help="Bake golden OS images for bare-metal Solana hosts, and flash hosts with them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
bake_commands.register(app)
bench_commands.register(app)
flash_commands.register(app)
host_commands.register(app)
history_commands.register(app)
init_commands.register(app)
config_commands.register(app)
drift_commands.register(app)
judge_commands.register(app)
identity_commands.register(app)
lab_commands.register(app)
lock_commands.register(app)
images = typer.Typer(help="Images in the store.", no_args_is_help=True)
for commands in (images_commands, release_commands, staging_commands, inspect_commands, output_commands):
    commands.register(app, images)
app.add_typer(images, name="images")
key_commands.register(app)
monitor_commands.register(app)
rollout_commands.register(app)
secret_commands.register(app)
upkeep_commands.register(app)
workflow_commands.register(app)
schema_commands.register(app)
add_examples(app)


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer's callback shape
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with errors.")] = False,
    log: Annotated[
        str | None, typer.Option("--log-format", help="text, or json: one JSON object a line on stderr (QTRADE_LOG).")
    ] = None,
) -> None:
    """Options of every command."""
    del version
    if log:
        os.environ[VARIABLE] = log
    check_format()
    if debug:
        os.environ["QTRADE_DEBUG"] = "1"


def _run() -> None:
    """Run the command that was typed. Raises `UsageError` for one that cannot be parsed."""
    try:
        code = app(prog_name="qtrade", standalone_mode=False)
    except PARSER_ERRORS as error:
        raise explain_usage(error) from error
    if isinstance(code, int) and code:
        sys.exit(code)


def main(commands: Callable[[], object] = _run) -> None:
    """Run the command line; every error is printed here, once."""
    os.umask(0o022)  # modes of what is baked are not the caller's to choose; what is private says so itself
    try:
        commands()
    except QtradeError as error:
        _fail(error)
    except OSError as error:
        _fail(explain_system(error))
    except ABORTED as aborted:
        if isinstance(aborted.__context__, KeyboardInterrupt):  # Ctrl-C at a question
            tell("interrupted; nothing was done")
            sys.exit(_INTERRUPTED)
        _fail(Refused("nobody answered; nothing was done", resolution="answer the question, or add --yes"))
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            tell("interrupted; run the same command again to go on")
        raise


def _fail(error: QtradeError) -> None:
    if os.environ.get("QTRADE_DEBUG"):
        traceback.print_exc()
    write_error(error)
    sys.exit(error.exit_code)
