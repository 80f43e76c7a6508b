"""`qtrade ssh`, `logs`, `console`, `hosts keys`, `hosts test`: people's way to a host."""

import sys
from typing import Annotated

import typer

from qtrade.cli.complete import complete_hosts
from qtrade.cli.options import AsJson, HostName
from qtrade.cli.prompts import console
from qtrade.errors import UsageError
from qtrade.redaction import redact
from qtrade.reporter import print_document
from qtrade.settings import load_settings

Host = Annotated[str, typer.Argument(help="Host in manifests/hosts, or a lab host.", autocompletion=complete_hosts)]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept on record. Hosts of production ask for it.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("ssh")(ssh)
    app.command("logs")(logs)
    app.command("console")(watch)


def add_commands(hosts: typer.Typer) -> None:
    """Add the commands of this module to `qtrade hosts`."""
    hosts.command("keys")(keys)
    hosts.command("test")(try_way_in)


def ssh(
    host: Host,
    command: Annotated[list[str] | None, typer.Argument(help="After `--`; a shell if left out.")] = None,
    *,
    reason: Reason = "",
) -> None:
    """Log in as the operator, with the pinned host key; who, when, why and what is on record: `qtrade ssh rpc-1 -- uptime`.

    Secrets have no place in a command. The drift report tells of every use.
    """
    from flash.go_in import open_shell  # noqa: PLC0415 - keeps `qtrade --help` quick

    raise typer.Exit(open_shell(load_settings(), host, command or (), reason=reason))


def logs(
    host: Host,
    *,
    unit: Annotated[str, typer.Option("--unit", help="Unit of systemd, such as agave-validator.service.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on as lines come, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", min=1, max=100000, help="How many to begin with.")] = 200,
    reason: Reason = "",
) -> None:
    """Show the journal of a unit: `qtrade logs rpc-1 --unit agave-validator.service`. On record, as `qtrade ssh`."""
    from flash.go_in import follow_logs  # noqa: PLC0415 - keeps `qtrade --help` quick

    raise typer.Exit(follow_logs(load_settings(), host, unit, follow=follow, lines=lines, reason=reason))


def watch(host: Host, *, reason: Reason = "") -> None:
    """Show the serial console that the host's manifest names, until Ctrl-C. On record, as `qtrade ssh`."""
    from flash.go_in import watch_console  # noqa: PLC0415 - keeps `qtrade --help` quick

    raise typer.Exit(watch_console(load_settings(), host, reason=reason))


def keys(
    *,
    host: HostName,
    accept: Annotated[
        bool, typer.Option("--accept", help="Pin the offered key, once its fingerprint was typed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show which SSH host key is pinned and which one the host offers; fails when they differ.

    With --accept, the fingerprint that the host's own console shows has to be typed; what the network says is not shown before.
    """
    from flash import host_keys  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.inventory import load_host  # noqa: PLC0415
    from flash.manual_access import Purpose, record  # noqa: PLC0415

    settings = load_settings()
    manifest = load_host(settings, host)
    found = host_keys.look_at_keys(settings, manifest)
    if accept and not found.are_same:
        typed = _ask_fingerprint(host, host_keys.SHOW)

        def pin() -> int:
            host_keys.accept(settings, found, typed)
            return 0

        change = (
            f"pin {host_keys.fingerprint(found.offered)} in place of {host_keys.fingerprint(found.pinned) or 'none'}"
        )
        record(settings, manifest, Purpose("keys", command=change), pin)
        found = host_keys.look_at_keys(settings, manifest)
    pinned, offered = host_keys.fingerprint(found.pinned), host_keys.fingerprint(found.offered)
    if as_json:
        fields = {"host": host, "pinned": pinned or None, "offered": offered, "same": found.are_same}
        print_document("host-keys", fields)
    else:
        typer.echo(f"{host} pinned  {pinned or 'none'}\n{host} offered {offered}")
    found.require_same()


def _ask_fingerprint(host: str, show: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            f"pin another key of {host}: nobody can be asked",
            resolution="run it at a terminal; there is no option for it, as what is typed has to come from the host",
        )
    return str(typer.prompt(f"Run `{show}` at the console of {host}, and type the SHA256:… that it shows", err=True))


def try_way_in(*, host: HostName, as_json: AsJson = False) -> None:
    """Try the way in, part by part: our key, the host's key, the agent as the deploy user, the operator's login."""
    from flash.inventory import load_host  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.ssh_checks import try_parts  # noqa: PLC0415

    settings = load_settings()
    done = tuple(try_parts(settings, load_host(settings, host), console(settings)))
    if as_json:
        rows = [{"name": one.name, "told": one.told, "error": one.error.brief if one.error else None} for one in done]
        print_document("host-checks", {"host": host, "checks": rows})
    else:
        for one in done:
            typer.echo(redact(f"{'ok' if one.error is None else 'failed':7} {one.name} {one.told}"))
    failed = [one.error for one in done if one.error is not None]
    if failed:
        raise failed[0]
