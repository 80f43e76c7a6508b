"""`qtrade flash`, `rollback`."""

import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli import access, push
from qtrade.cli.complete import complete_versions
from qtrade.cli.options import AsJson, HostName, Yes
from qtrade.cli.prompts import confirm, confirm_erasure, console
from qtrade.errors import Refused, UsageError
from qtrade.look import width_of
from qtrade.reporter import print_document
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from flash.run import FlashResult


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("flash")(flash)
    push.register(app)
    access.register(app)
    app.command("rollback")(rollback)


def flash(  # noqa: PLR0913 - one parameter per option
    *,
    host: HostName,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", help="Version; the newest of the host's recipe if left out.", autocompletion=complete_versions
        ),
    ] = None,
    door: Annotated[
        str | None, typer.Option("--door", help="This door and no other; else the host's first open one.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Stop after this state, such as ARMED; the same command goes on.")
    ] = None,
    allow_older: Annotated[
        bool, typer.Option("--allow-older", help="Take a version that was promoted before the one that runs.")
    ] = False,
    reimage: Annotated[
        bool, typer.Option("--reimage", help="Make the OS disk anew, all but qtrade-state; never in place.")
    ] = False,
    wipe_state: Annotated[
        bool, typer.Option("--wipe-state", help="Also give up qtrade-state: /var, host keys, config, secrets.")
    ] = False,
    adopt: Annotated[
        str, typer.Option("--adopt", help="Overwrite what the OS disk holds: the digits that a refused flash showed.")
    ] = "",
    disposable: Annotated[
        str | None, typer.Option("--disposable", help="The host's name: the provider may erase all of its disks.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the host's open flash, with its own version and door.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="End the host's open flash at a safe point, or its quarantine.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put an image on a host: `qtrade flash --host lab-1 --version 0.1.0`. Run it again to resume."""
    from flash import run  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.context import Reimage  # noqa: PLC0415
    from flash.journal import past_seconds  # noqa: PLC0415
    from flash.plan import expected_s, render_plan  # noqa: PLC0415

    stop = run.parse_until(until)
    settings = load_settings()
    reporter = console(settings)
    gives_up = Reimage(adopt=adopt, remake_system=reimage or wipe_state, wipe_state=wipe_state)
    if resume or abort:
        _refuse_choices(resume and abort, version, door, allow_older, gives_up != Reimage())
    if abort:
        confirm(f"abort the flash of {host}", host, yes=yes)
        _show_result(run.abort(settings, host, reporter), as_json=as_json)
        return
    if resume:
        context, plan = run.prepare_open(settings, host, reporter)
        run.check_same(context, plan)
    else:
        context, plan = run.prepare(
            settings, host, version, reporter, door=run.parse_door(door), allow_older=allow_older, reimage=gives_up
        )
    took = past_seconds(settings.state_dir / "flashes" / host, plan.door)
    if dry_run:
        if as_json:
            print_document("flash-plan", {**asdict(plan), "expected_s": expected_s(plan, took)})
        else:
            typer.echo(render_plan(plan, took=took, width=width_of()))
        return
    reporter.say(render_plan(plan, took=took, width=width_of(sys.stderr)))
    may_wipe = confirm_erasure(context.host, plan.door, disposable=disposable)
    confirm(f"flash {host} ({plan.environment})", host, yes=yes or may_wipe)
    begin = run.flash if door else partial(run.flash_in_order, may_wipe=may_wipe)
    _show_result(begin(context, plan, until=stop), as_json=as_json)


def _refuse_choices(*given: object) -> None:
    """Raise `UsageError` for options that an open flash has decided already."""
    if any(given):
        raise UsageError(
            "--resume and --abort take the open flash of the host as it is",
            resolution="give one of them, with --host, --until, --dry-run, --yes and --json only",
        )


def _show_result(result: "FlashResult", *, as_json: bool) -> None:
    if as_json:
        print_document("flash", asdict(result))
    else:
        typer.echo(f"{result.host} {result.version} {result.state}")


def rollback(
    *,
    host: HostName,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Installed version; the previous one if left out.", autocompletion=complete_versions),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the host, show the plan and stop.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Boot an earlier installed version. Downloads nothing."""
    from flash.rollback import plan_rollback, render_rollback  # noqa: PLC0415
    from flash.rollback import rollback as roll_back  # noqa: PLC0415

    settings = load_settings()
    if dry_run and as_json:
        print_document("rollback-plan", asdict(plan_rollback(settings, host, to=to)))
        return
    if dry_run:
        typer.echo(render_rollback(plan_rollback(settings, host, to=to), width=width_of()))
        return
    if not yes and sys.stdin.isatty():
        plan = plan_rollback(settings, host, to=to)
        typer.echo(render_rollback(plan, width=width_of(sys.stderr)), err=True)
        if plan.reasons:
            raise Refused(
                f"{host} cannot be rolled back: {plan.reasons[0]}", resolution="name another version with --to"
            )
    confirm(f"roll {host} back", host, yes=yes)
    result = roll_back(settings, host, console(settings), to=to)
    if as_json:
        print_document("rollback", asdict(result))
    else:
        typer.echo(f"{result.host} {result.version}; {result.bytes_fetched} bytes downloaded")
