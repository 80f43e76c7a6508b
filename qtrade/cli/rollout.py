"""`qtrade rollout`."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import inf
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import complete_environments, complete_recipes, complete_versions
from qtrade.cli.options import AsJson, Yes
from qtrade.cli.prompts import confirm_fleet, console
from qtrade.errors import UsageError
from qtrade.look import width_of
from qtrade.reporter import print_document, tell
from qtrade.settings import Settings, load_settings

if TYPE_CHECKING:
    from flash.rollout.control import Rollout
    from flash.rollout.status import RolloutStatus

EnvName = Annotated[str, typer.Option("--env", help="Environment.", autocompletion=complete_environments)]
AtMost = Annotated[
    float | None, typer.Option("--at-most", min=1, help="Pause after so many minutes, for runners whose jobs end.")
]
Serve = Annotated[
    str | None,
    typer.Option("--serve", metavar="[ADDRESS:]PORT", help="Show it there meanwhile, as `rollout serve` does."),
]
_DAY_S = 86400.0


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="Bring a version to all hosts of an environment, in judged waves.", no_args_is_help=True)
    for command in (start, status, pause, resume, abort, undo, serve):
        group.command(command.__name__)(command)
    app.add_typer(group, name="rollout")


def start(  # noqa: PLR0913 - one parameter per option
    *,
    env: EnvName,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            help="Version; where the environment's channel leads if left out.",
            autocompletion=complete_versions,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Recipe, where hosts run several.", autocompletion=complete_recipes),
    ] = None,
    at_most: AtMost = None,
    serve_at: Serve = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Roll a version out: canary first, then wave by wave as far as the judge lets it. Run it again to go on."""
    from flash.rollout import control  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.rollout.journal import PLANS  # noqa: PLC0415
    from flash.rollout.waves import render_rollout  # noqa: PLC0415

    settings = load_settings()
    plan = control.choose_plan(settings, env, version, recipe or None)
    if dry_run and as_json:
        print_document("rollout-plan", PLANS.dump_python(plan, mode="json"))
        return
    if dry_run:
        typer.echo(render_rollout(plan, width=width_of()))
        return
    reporter = console(settings)
    reporter.say(render_rollout(plan, width=width_of(sys.stderr)))
    confirm_fleet(f"roll {plan.recipe} {plan.version} out", env, [one.name for one in plan.members], yes=yes)
    with _served(settings, serve_at):
        rollout = control.start(settings, plan, reporter, at_most_s=_seconds(at_most))
    _end(rollout, as_json=as_json)


def status(
    *,
    env: EnvName,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for the end; exit code 0 if it is a good one, else 1.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="With --watch: seconds to wait.")] = _DAY_S,
    as_json: AsJson = False,
) -> None:
    """Show how the environment's last rollout stands, also one that runs elsewhere."""
    from flash.rollout import status as looks  # noqa: PLC0415

    settings = load_settings()
    if not watch:
        _show(looks.read_status(settings, env), as_json=as_json)
        return
    found = looks.watch(
        settings, env, timeout_s=timeout, tell=lambda one: tell(looks.render_status(one, width=width_of(sys.stderr)))
    )
    _show(found, as_json=as_json)


def pause(*, env: EnvName, as_json: AsJson = False) -> None:
    """Start no more hosts; those under way end. `resume` goes on."""
    from flash.rollout import control  # noqa: PLC0415

    settings = load_settings()
    _show_rollout(control.stop(settings, env, "pause", console(settings)), as_json=as_json)


def resume(
    *, env: EnvName, at_most: AtMost = None, serve_at: Serve = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Go on with a rollout that is paused, or whose controller has gone."""
    from flash.rollout import control  # noqa: PLC0415

    settings = load_settings()
    found = control.open_rollout(settings, env)
    tell(f"paused because: {found.progress.why}" if found.progress.why else "its controller has gone")
    confirm_fleet(f"go on with {found.plan.recipe} {found.plan.version}", env, list(found.progress.hosts), yes=yes)
    with _served(settings, serve_at):
        rollout = control.resume(settings, env, console(settings), at_most_s=_seconds(at_most))
    _end(rollout, as_json=as_json)


def abort(*, env: EnvName, yes: Yes = False, as_json: AsJson = False) -> None:
    """End the rollout where it stands: hosts under way end, all keep what they run then. `undo` takes them back."""
    from flash.rollout import control  # noqa: PLC0415

    settings = load_settings()
    found = control.open_rollout(settings, env)
    confirm_fleet(f"abort the rollout of {found.plan.version}", env, (), yes=yes)
    _show_rollout(control.stop(settings, env, "abort", console(settings)), as_json=as_json)


def undo(
    *,
    env: EnvName,
    to: Annotated[
        str,
        typer.Option(
            "--to", help="Installed version; what each host ran before if left out.", autocompletion=complete_versions
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask the hosts, show what would be done, and stop.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take the hosts of the last rollout back to an installed version, at the same caps. Downloads nothing."""
    from flash.rollout import control, undoing  # noqa: PLC0415

    settings = load_settings()
    plan = undoing.plan_undo(settings, env, to)
    if dry_run and as_json:
        print_document("rollout-undo", asdict(plan))
        return
    if dry_run:
        typer.echo(undoing.render_undo(plan, width=width_of()))
        return
    tell(undoing.render_undo(plan, width=width_of(sys.stderr)))
    undoing.check_fits(plan)
    confirm_fleet(f"undo {plan.version}", env, [one.host for one in plan.hosts], yes=yes)
    _end(control.undo(settings, env, console(settings), to=to), as_json=as_json)


def serve(
    *,
    listen: Annotated[str, typer.Option("--listen", help="Address; anybody who reaches it may read.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any free one.")] = 9464,
) -> None:
    """Serve a live page of each environment's rollout, and /metrics for Prometheus, until Ctrl-C. Reads the store, changes nothing."""
    with _showing(load_settings(), listen, port, until="Ctrl-C ends it"):
        threading.Event().wait()


@contextmanager
def _served(settings: Settings, where: str | None) -> Iterator[None]:
    """Show rollouts at `where` while the `with` lasts; nothing where it is None. Raises `UsageError`, `ConflictError`."""
    if where is None:
        yield
        return
    address, _, port = where.rpartition(":")
    if not port.isdecimal() or int(port) >= 1 << 16:
        raise UsageError(f"--serve {where} is no [ADDRESS:]PORT", resolution="write it as 9464 or 10.0.0.5:9464")
    with _showing(settings, address.strip("[]") or "127.0.0.1", int(port), until="until this ends"):
        yield


@contextmanager
def _showing(settings: Settings, listen: str, port: int, *, until: str) -> Iterator[None]:
    from flash.rollout.serve import RolloutServer  # noqa: PLC0415

    with RolloutServer(settings, listen, port) as server:
        tell(f"rollouts are shown at {server.url}; {until}")
        yield


def _seconds(minutes: float | None) -> float:
    return inf if minutes is None else minutes * 60


def _end(rollout: "Rollout", *, as_json: bool) -> None:
    """Print how it ended. Raises the error of an end that is not good."""
    from flash.rollout.control import check_ended_well  # noqa: PLC0415

    _show_rollout(rollout, as_json=as_json)
    check_ended_well(rollout)


def _show_rollout(rollout: "Rollout", *, as_json: bool) -> None:
    from flash.rollout.status import status_of  # noqa: PLC0415

    _show(status_of(rollout), as_json=as_json)


def _show(found: "RolloutStatus", *, as_json: bool) -> None:
    from flash.rollout.status import render_status  # noqa: PLC0415

    if as_json:
        print_document("rollout", asdict(found))
    else:
        typer.echo(render_status(found, width=width_of()))
