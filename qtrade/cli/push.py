"""`qtrade push`."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import complete_environments, complete_hosts
from qtrade.cli.options import AsJson, Yes
from qtrade.cli.prompts import confirm, console
from qtrade.errors import UsageError
from qtrade.look import width_of
from qtrade.redaction import redact
from qtrade.reporter import Reporter, print_document, write_error
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flash.push_many import Outcome
    from flash.push_plan import PushPlan


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("push")(push)


def push(  # noqa: PLR0913 - one parameter per option
    *,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Host in manifests/hosts, or a lab host.", autocompletion=complete_hosts),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            "--env",
            help="All hosts of this environment, side by side, in place of one.",
            autocompletion=complete_environments,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop; nothing is sent.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show the values that change, too; never those of secrets.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the config generation before, of the same image.")
    ] = False,
    to: Annotated[str, typer.Option("--to", help="With --rollback: this generation.")] = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send hosts their config and secrets; only the units that read what changed reload or restart.

    A host that cannot be reached anew after a change to SSH, network or firewall takes that change back by itself.
    """
    from flash.push import Order  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.push_many import hosts_of, plan_hosts, push_hosts  # noqa: PLC0415

    if (host is None) == (env is None):
        raise UsageError("push takes either --host or --env", resolution="give one of them")
    if to and (not rollback or env):
        raise UsageError("--to names a generation of one host", resolution="give it with --host and --rollback only")
    settings = load_settings()
    reporter, order = console(settings), Order(rollback=rollback, to=to)
    names = (host,) if host is not None else hosts_of(settings, env or "")
    if dry_run:
        outcomes = plan_hosts(settings, names, reporter, order)
    else:
        outcomes = push_hosts(
            settings, names, reporter, _asking(host or env or "", reporter, diff=diff, yes=yes), order
        )
    _show(outcomes, is_one=host is not None, as_json=as_json, diff=diff)


def _asking(name: str, reporter: Reporter, *, diff: bool, yes: bool) -> "Callable[[Sequence[PushPlan]], None]":
    """Return what shows the plans to people and asks them once, if there is anything to do."""
    from flash.push_plan import render_plan  # noqa: PLC0415

    def ask(plans: "Sequence[PushPlan]") -> None:
        for plan in plans:
            reporter.say(render_plan(plan, shows_values=diff, width=width_of(sys.stderr)))
        changes = [plan for plan in plans if not plan.is_empty]
        if changes:
            confirm(f"push to {name} ({len(changes)} of {len(plans)} hosts change)", name, yes=yes)

    return ask


def _show(outcomes: "list[Outcome]", *, is_one: bool, as_json: bool, diff: bool) -> None:
    """Print what was done, and each failure by the name of its host. Raises the one error of one host."""
    from flash.push_many import exit_code  # noqa: PLC0415

    if is_one and outcomes[0].error is not None:
        raise outcomes[0].error
    if as_json:
        documents = [one.as_json() for one in outcomes]
        _print_one(outcomes[0]) if is_one else print_document("pushes", {"hosts": documents})
    else:
        typer.echo(redact("\n".join(_line(one, diff=diff) for one in outcomes if one.error is None)))
    for one in outcomes:
        if one.error is not None:
            write_error(one.error, host=one.host)
    if code := exit_code(outcomes):
        raise typer.Exit(code)


def _print_one(one: "Outcome") -> None:
    if one.result:
        print_document("push", asdict(one.result))
    elif one.plan:
        print_document("push-plan", asdict(one.plan))


def _line(one: "Outcome", *, diff: bool) -> str:
    from flash.push_plan import render_plan  # noqa: PLC0415

    if one.result is None:
        return render_plan(one.plan, shows_values=diff, width=width_of()) if one.plan else ""
    result = one.result
    if not result.changed:
        return f"{one.host} generation {result.generation}; nothing to change"
    said = f"{one.host} generation {result.generation}; units: {', '.join(result.units) or 'none'}"
    if result.reboot_needed:
        said += f"; waits for a reboot: {', '.join(result.reboot_needed)}"
    return said
