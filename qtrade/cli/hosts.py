"""`qtrade hosts`."""

from dataclasses import asdict
from typing import Annotated

import typer

from qtrade.cli import access, maintenance
from qtrade.cli import init as first_host
from qtrade.cli.access import Host
from qtrade.cli.complete import complete_hosts
from qtrade.cli.options import AsJson
from qtrade.errors import UsageError
from qtrade.look import width_of
from qtrade.reporter import print_document, print_json
from qtrade.settings import load_settings

Live = Annotated[bool, typer.Option("--live", help="Also ask the hosts themselves, side by side.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    hosts = typer.Typer(help="Hosts.", no_args_is_help=True)
    hosts.command("list")(list_hosts)
    hosts.command("show")(show_host)
    first_host.add_commands(hosts)
    hosts.command("inventory")(show_inventory)
    maintenance.add_commands(hosts)
    access.add_commands(hosts)
    app.add_typer(hosts, name="hosts")


def list_hosts(*, live: Live = False, as_json: AsJson = False) -> None:
    """List all hosts: environment, role, address, what their deploys left them with, and who holds them."""
    from flash.fleet import HostList, look_over, render_hosts  # noqa: PLC0415 - keeps `qtrade --help` quick
    from qtrade.store import open_store  # noqa: PLC0415

    settings = load_settings()
    rows = look_over(settings, open_store(settings), live=live)
    if as_json:
        print_document("host-list", asdict(HostList(rows)))
    else:
        typer.echo(render_hosts(rows, width=width_of()))


def show_host(host: Host, *, as_json: AsJson = False) -> None:
    """Print what a host says of itself, where its flash stands and who holds it; all of it with --json."""
    from flash.standing import render_standing, show  # noqa: PLC0415 - keeps `qtrade --help` quick

    found = show(load_settings(), host)
    if as_json:
        print_document("host-status", found)
    else:
        typer.echo(render_standing(found, width=width_of()))


def show_inventory(
    *,
    of_all: Annotated[bool, typer.Option("--list", help="All hosts and groups; so is no option at all.")] = False,
    host: Annotated[
        str | None, typer.Option("--host", help="Only this host's variables.", autocompletion=complete_hosts)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the hosts as an Ansible inventory, always as JSON: `ansible-playbook -i inventory` in ansible/ calls this."""
    from flash.ansible_inventory import host_variables, render_inventory  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.inventory import load_host  # noqa: PLC0415

    del as_json
    if of_all and host is not None:
        raise UsageError("--list and --host do not go together", resolution="give one of them")
    settings = load_settings()
    print_json(render_inventory(settings) if host is None else host_variables(settings, load_host(settings, host)))
