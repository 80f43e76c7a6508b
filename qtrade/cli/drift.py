"""`qtrade drift`, `qtrade verify`."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import complete_environments, complete_hosts
from qtrade.cli.options import AsJson, HostName, Yes
from qtrade.cli.prompts import confirm, console
from qtrade.errors import UsageError
from qtrade.look import width_of
from qtrade.reporter import print_document
from qtrade.settings import Settings, load_settings

if TYPE_CHECKING:
    from flash.drift.look import HostReport

# Of every command that compares (docs/architecture.md, "Drift"); a wrong command line has it too.
DRIFTED = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("drift")(drift)
    app.command("verify")(verify)


def drift(  # noqa: PLR0913 - one parameter per option
    *,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Host in manifests/hosts, or a lab host.", autocompletion=complete_hosts),
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", help="All hosts of this environment.", autocompletion=complete_environments)
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Push or reboot what that cures, after asking; needs --host.")
    ] = False,
    by_policy: Annotated[
        bool, typer.Option("--policy", help="Do what the environment's drift.policy says: notify, enforce.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, by policy, until Ctrl-C.")] = False,
    every: Annotated[int, typer.Option("--every", min=30, max=86400, help="Seconds between rounds of --watch.")] = 300,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="End --watch after so many rounds.")] = None,
    yes: Yes = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print one page of HTML on stdout.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how hosts differ from image, manifests and last push: `qtrade drift --host rpc-1`. Exit code 2: they do.

    It changes nothing but with --fix, --policy or --watch.
    """
    from flash.drift.look import choose_hosts, look_at_all  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.drift.watch import watch as rounds_of  # noqa: PLC0415

    _check_options(host, env, fix=fix, watch=watch or by_policy, forms=as_html + as_json)
    settings = load_settings()
    hosts = choose_hosts(settings, host, env)
    reports: tuple[HostReport, ...] = ()
    for reports in rounds_of(lambda: look_at_all(settings, hosts), every_s=every, rounds=rounds if watch else 1):
        if not fix:
            _show(reports, as_html=as_html, as_json=as_json)
        if watch or by_policy:
            _follow_policy(settings, reports)
    if fix:
        reports = _fix(settings, reports[0], yes=yes)
        _show(reports, as_html=as_html, as_json=as_json)
    if any(report.drifted for report in reports):
        raise typer.Exit(DRIFTED)


def _check_options(host: str | None, env: str | None, *, fix: bool, watch: bool, forms: int) -> None:
    if (host is None) == (env is None):
        raise UsageError("exactly one of --host and --env is needed", resolution="name a host, or an environment")
    if forms > 1:
        raise UsageError("--json and --html do not go together", resolution="give one of them")
    if fix and (host is None or watch):
        raise UsageError("--fix goes with --host, and not with --watch or --policy", resolution="name one host")


def _show(reports: "tuple[HostReport, ...]", *, as_html: bool, as_json: bool) -> None:
    from flash.drift.page import render_page  # noqa: PLC0415
    from flash.drift.report import document, render_text  # noqa: PLC0415

    if as_json:
        print_document("drift", document(reports))
    else:
        typer.echo(render_page(reports) if as_html else render_text(reports))
    sys.stdout.flush()


def _follow_policy(settings: Settings, reports: "tuple[HostReport, ...]") -> None:
    from flash.drift.look import choose_hosts, look_at_all  # noqa: PLC0415
    from flash.drift.policy import carry_out  # noqa: PLC0415

    carry_out(
        settings, reports, console(settings), lambda name: look_at_all(settings, choose_hosts(settings, name, None))[0]
    )


def _fix(settings: Settings, report: "HostReport", *, yes: bool) -> "tuple[HostReport, ...]":
    """Show the plan, ask, carry it out, and return what is then."""
    from flash.drift.fix import fix, plan_fix, render_plan  # noqa: PLC0415
    from flash.drift.look import choose_hosts, look_at_all  # noqa: PLC0415

    reporter, plan = console(settings), plan_fix(report)
    reporter.say(render_plan(plan, report, width=width_of(sys.stderr)))
    if not plan.steps:
        return (report,)
    confirm(f"{' and '.join(plan.steps)} {report.host}", report.host, yes=yes)
    hosts = choose_hosts(settings, report.host, None)
    return (fix(settings, plan, reporter, lambda: look_at_all(settings, hosts)[0]),)


def verify(
    *,
    host: HostName,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", help="Fail where this check would be skipped, such as monitoring; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that a host does its work: services, readiness, the Geyser stream, monitoring, the roles' specs. Fails when one is not proven.

    `qtrade verify --host rpc-1`; as a gate, its exit code is 0 only when everything holds.
    """
    from flash.verify import verify as verify_host  # noqa: PLC0415 - keeps `qtrade --help` quick

    settings = load_settings()
    result = verify_host(settings, host, console(settings), required=frozenset(require or ()))
    if as_json:
        print_document("verification", asdict(result))
    else:
        typer.echo("\n".join(f"{check.name:10} {check.state:8} {check.told}" for check in result.checks))
    result.require_proven()
