"""`qtrade bench load|host|compare`."""

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import complete_environments, complete_hosts, complete_versions
from qtrade.cli.options import AsJson, HostName, RecipeName, Yes
from qtrade.cli.prompts import confirm, console
from qtrade.errors import HostError, QtradeError, UsageError, choose_from
from qtrade.reporter import print_document, write_error
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flash.bench.guard import LoadOrder
    from qtrade.trust.fleet_facts import Bench

_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, None: 1}
_MIXED = QtradeError.exit_code


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    bench = typer.Typer(help="Put bounded load on hosts, measure them, compare releases.", no_args_is_help=True)
    for name, command in (("load", load), ("host", host), ("compare", compare)):
        bench.command(name)(command)
    app.add_typer(bench, name="bench")


def load(  # noqa: PLR0913 - one parameter per option
    *,
    host: Annotated[
        str | None, typer.Option("--host", help="Host in manifests/hosts.", autocompletion=complete_hosts)
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            "--env", help="All hosts of this environment, one after another.", autocompletion=complete_environments
        ),
    ] = None,
    duration: Annotated[str, typer.Option("--for", help="How long each kind of load lasts: 60s, 5m.")] = "60s",
    rps: Annotated[int, typer.Option("--rps", min=1, help="RPC requests a second.")] = 50,
    streams: Annotated[int, typer.Option("--streams", min=1, max=64, help="Geyser subscriptions.")] = 4,
    writes: Annotated[int, typer.Option("--writes", min=1, help="Rows a second that PostgreSQL is given.")] = 50,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="rpc, stream or postgres; repeatable, all if left out.")
    ] = None,
    origin: Annotated[
        str, typer.Option("--from", help="Where RPC requests come from: host (no network), or here.")
    ] = "host",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the bounds, show what would be sent, and stop.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put load on hosts and keep what came of it: `qtrade bench load --env staging --for 60s`. Never on one with stake."""
    from flash.bench.load import bench_load, plan_load  # noqa: PLC0415 - keeps `qtrade --help` quick

    settings = load_settings()
    order = _order(duration, rps, streams, writes, kind, origin)
    names = _names(host, env)
    plan = plan_load(settings, names, order)
    if dry_run:
        _print_plan(names, order, plan, as_json=as_json)
        return
    if "production" in plan:
        confirm("put load on production", env or host or "", yes=yes)
    reporter = console(settings)
    _finish(names, lambda name: bench_load(settings, name, order, reporter), as_json=as_json)


def host(*, host: HostName, as_json: AsJson = False) -> None:
    """Measure a host: disk, network, memory, PostgreSQL, RPC, Geyser. What it has no tool for is called not measured."""
    from flash.bench.host import bench_host  # noqa: PLC0415

    settings = load_settings()
    reporter = console(settings)
    _finish((host,), lambda name: bench_host(settings, name, reporter), as_json=as_json)


def compare(
    before: Annotated[str, typer.Argument(metavar="V1", help="Earlier version.", autocompletion=complete_versions)],
    after: Annotated[str, typer.Argument(metavar="V2", help="Later version.", autocompletion=complete_versions)],
    *,
    recipe: RecipeName = "lab",
    hardware_class: Annotated[str | None, typer.Option("--class", help="Only this hardware class.")] = None,
    env: Annotated[
        str, typer.Option("--env", help="Whose tolerances count.", autocompletion=complete_environments)
    ] = "staging",
    as_json: AsJson = False,
) -> None:
    """Compare what was measured with two versions, per hardware class; ends with 9 where something got worse."""
    from flash.bench.records import compare_versions  # noqa: PLC0415
    from flash.bench.render import render_comparison  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415
    from qtrade.trust.keyring import load_keyring  # noqa: PLC0415

    settings = load_settings()
    trust = load_keyring(settings).trust
    found = compare_versions(
        settings, open_store(settings), trust, recipe, before, after, only_class=hardware_class, environment=env
    )
    if as_json:
        print_document("bench-comparison", {**asdict(found), "worse": len(found.worse)})
    else:
        typer.echo(render_comparison(found))
    if found.worse:
        named = ", ".join(dict.fromkeys(row.metric for row in found.worse))
        raise HostError(
            f"{recipe} {after} is worse than {before}: {named}",
            resolution="measure once more; then find out what changed",
        )


def _order(duration: str, rps: int, streams: int, writes: int, kinds: list[str] | None, origin: str) -> "LoadOrder":
    from flash.bench.guard import Load, LoadOrder, Origin  # noqa: PLC0415

    match = _DURATION.fullmatch(duration)
    if match is None:
        raise UsageError(f"--for {duration!r:.40} is no time", resolution="write it as 60s, 5m or 1h")
    for word, known, option in (*((one, Load, "--kind") for one in kinds or ()), (origin, Origin, "--from")):
        if word not in list(known):
            raise UsageError(f"{option} {word} is unknown", resolution=choose_from(word, list(known)))
    chosen = tuple(Load(one) for one in dict.fromkeys(kinds or list(Load)))
    seconds = int(match[1]) * _SECONDS[match[2]]
    return LoadOrder(chosen, seconds, rps, streams, writes, Origin(origin))


def _names(host: str | None, env: str | None) -> tuple[str, ...]:
    from flash.push_many import hosts_of  # noqa: PLC0415

    if (host is None) == (env is None):
        raise UsageError("bench load takes either --host or --env", resolution="give one of them")
    return (host,) if host is not None else hosts_of(load_settings(), env or "")


def _print_plan(names: tuple[str, ...], order: "LoadOrder", plan: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        print_document("bench-plan", {"hosts": list(names), "environments": list(plan), "asked": order.to_dict()})
        return
    kinds = ", ".join(order.kinds)
    total_s = order.seconds * len(order.kinds) * len(names)
    typer.echo(f"would put load on {', '.join(names)}: {kinds}, each for {order.seconds} s (about {total_s} s in all)")


def _finish(names: "Sequence[str]", do: "Callable[[str], Bench]", *, as_json: bool) -> None:
    """Measure one host after another and print all records, then end with the one code that all failures share.

    Of several hosts those with stake are passed over: that is no failure while any other was measured.
    """
    from flash.bench.guard import StakedHost  # noqa: PLC0415
    from flash.bench.render import render_record  # noqa: PLC0415

    records: list[Bench] = []
    errors: dict[str, QtradeError] = {}
    for name in names:
        try:
            records.append(do(name))
        except QtradeError as error:
            if len(names) == 1:
                raise
            errors[name] = error
    if as_json:
        refused = [{"host": name, "brief": error.brief, "exit_code": error.exit_code} for name, error in errors.items()]
        print_document("bench", {"records": [one.model_dump(mode="json") for one in records], "errors": refused})
    else:
        typer.echo("\n".join(render_record(one) for one in records))
    for name, one in errors.items():
        write_error(one, host=name)
    failures = [one for one in errors.values() if not (records and isinstance(one, StakedHost))]
    codes = {error.exit_code for error in failures}
    if codes:
        raise typer.Exit(_MIXED if len(codes) > 1 else codes.pop())
    failed = [one for one in records if not one.passed]
    if failed:
        raise HostError(
            f"the load test failed on {', '.join(one.host for one in failed)}",
            details="\n".join(f"  {one.host}: {reason}" for one in failed for reason in one.reasons),
            resolution="the record is kept; mend what it names, and run it again",
        )
