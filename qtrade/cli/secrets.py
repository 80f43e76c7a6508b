"""`qtrade secrets check`, `secrets rotate`. Neither ever prints a value."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import complete_environments, complete_hosts
from qtrade.cli.options import AsJson, Yes
from qtrade.cli.prompts import confirm, console
from qtrade.errors import UsageError
from qtrade.redaction import redact
from qtrade.reporter import Reporter, print_document, write_error
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flash.push_many import Outcome
    from flash.push_plan import PushPlan
    from flash.secrets.rotate import Rotated

Host = Annotated[
    str | None, typer.Option("--host", help="Host in manifests/hosts, or a lab host.", autocompletion=complete_hosts)
]
Env = Annotated[
    str | None,
    typer.Option("--env", help="All hosts of this environment, in place of one.", autocompletion=complete_environments),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="Secrets: references, never values.", no_args_is_help=True)
    group.command("check")(check)
    group.command("rotate")(rotate)
    app.add_typer(group, name="secrets")


def check(*, host: Host = None, env: Env = None, as_json: AsJson = False) -> None:
    """Resolve every reference of a host or an environment and say which are missing, refused, unused or about to end.

    `qtrade secrets check --env production`. The exit code is 0 only when all of them resolve.
    """
    from flash.secrets.check import check_environment, check_host, exit_code, render_rows  # noqa: PLC0415 - keeps help quick

    _one_of(host, env)
    settings = load_settings()
    rows = check_host(settings, host) if host else check_environment(settings, env or "")
    if as_json:
        print_document("secrets", {"secrets": [asdict(row) for row in rows]})
    else:
        typer.echo(redact(render_rows(rows)))
    if code := exit_code(rows):
        raise typer.Exit(code)


def rotate(  # noqa: PLR0913 - one parameter per option
    name: Annotated[str, typer.Argument(help="The secret's name in the hosts' manifests.")],
    *,
    host: Host = None,
    env: Env = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="First write a fresh random value into its source (vault:, kv:).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which hosts would be sent it, and stop.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Read a secret from its source, send it to the hosts that use it, and see that they have it.

    `qtrade secrets rotate datadog_api_key --env production`. Nothing else of the hosts' config is sent.
    """
    from flash.push import Order  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.push_many import plan_hosts  # noqa: PLC0415
    from flash.secrets import rotate as rotating  # noqa: PLC0415

    _one_of(host, env)
    settings = load_settings()
    reporter = console(settings)
    rotation = rotating.find_rotation(settings, name, host=host, environment=env)
    if rotation.others:
        reporter.say(f"the same source is used by {', '.join(rotation.others)}: rotate there, too")
    ask = _asking(name, host or env or "", reporter, yes=yes)
    if dry_run:
        order, names = Order(secret=name), [one.name for one in rotation.hosts]
        outcomes = plan_hosts(settings, names, reporter, order)
        if as_json:
            print_document("secret-rotation", {"secret": name, "hosts": [one.as_json() for one in outcomes]})
        else:
            for one in outcomes:
                typer.echo(redact(one.error.render() if one.plan is None and one.error else _render(one)))
        return
    _show(name, rotating.rotate(settings, rotation, reporter, ask, generate=generate), as_json=as_json)


def _render(one: "Outcome") -> str:
    from flash.push_plan import render_plan  # noqa: PLC0415

    return render_plan(one.plan) if one.plan else one.host


def _one_of(host: str | None, env: str | None) -> None:
    if (host is None) == (env is None):
        raise UsageError("exactly one of --host and --env is needed", resolution="name a host, or an environment")


def _asking(name: str, where: str, reporter: Reporter, *, yes: bool) -> "Callable[[Sequence[PushPlan]], None]":
    def ask(plans: "Sequence[PushPlan]") -> None:
        from flash.push_plan import render_plan  # noqa: PLC0415

        for plan in plans:
            reporter.say(render_plan(plan))
        if plans:
            confirm(f"rotate {name} of {where} ({len(plans)} hosts)", where, yes=yes)

    return ask


def _show(name: str, done: "tuple[Rotated, ...]", *, as_json: bool) -> None:
    """Print what became of each host. Raises the one error of one host; exits with its class's code for several."""
    failed = [one.error for one in done if one.error is not None]
    if as_json:
        print_document("secret-rotation", {"secret": name, "hosts": [one.as_json() for one in done]})
    for one in done:
        if one.error is not None and (len(done) > 1 or as_json):
            write_error(one.error, host=one.host)
        elif one.error is None and not as_json:
            units = f"; units: {', '.join(one.units) or 'none'}" if one.sent else ""
            typer.echo(f"{one.host}: {name} {'sent' if one.sent else 'was there already'}, verified{units}")
    if len(failed) == 1 == len(done) and not as_json:
        raise failed[0]
    if failed:
        raise typer.Exit(failed[0].exit_code if len({error.exit_code for error in failed}) == 1 else 1)
