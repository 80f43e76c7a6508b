"""`qtrade lab`: virtual bare metal on this machine."""

from typing import Annotated

import typer

from qtrade.cli.options import AsJson
from qtrade.reporter import print_document
from qtrade.settings import load_settings

Name = Annotated[str, typer.Option("--name", help="Name of the lab host.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    lab = typer.Typer(help="Virtual bare metal: a QEMU host with a BMC, to flash as a real one.", no_args_is_help=True)
    lab.command("up")(up)
    lab.command("down")(down)
    lab.command("status")(status)
    app.add_typer(lab, name="lab")


def up(
    *,
    name: Name = "lab-1",
    firmware: Annotated[str, typer.Option("--firmware", help="bios or uefi.")] = "bios",
    memory_mib: Annotated[int, typer.Option("--memory-mib", min=1024)] = 2048,
    power_on: Annotated[bool, typer.Option("--power-on", help="Switch the host on.")] = False,
    owner_pid: Annotated[int | None, typer.Option("--owner-pid", help="End with this process.")] = None,
) -> None:
    """Make a lab host with blank disks and start its BMC: `qtrade lab up`, then `qtrade flash --host lab-1`."""
    from flash.lab import setup  # noqa: PLC0415 - keeps `qtrade --help` quick

    host = setup.up(load_settings(), name, firmware=firmware, memory_mib=memory_mib, owner_pid=owner_pid)
    if power_on:
        setup.power_on(host)
    typer.echo(f"{name} is up: BMC {host.access.url}, console {host.paths.console}")


def down(
    *, name: Name = "lab-1", wipe: Annotated[bool, typer.Option("--wipe", help="Delete its disks too.")] = False
) -> None:
    """Switch a lab host off and end its BMC."""
    from flash.lab import host  # noqa: PLC0415

    host.down(load_settings(), name, wipe=wipe)


def status(*, name: Name = "lab-1", as_json: AsJson = False) -> None:
    """Show what runs of a lab host."""
    from flash.lab import host  # noqa: PLC0415

    found = host.status(load_settings(), name)
    if as_json:
        fields = {"name": name, "bmc_pid": found.bmc_pid, "qemu_pid": found.qemu_pid, "up": found.is_up}
        print_document("lab", fields)
    else:
        power = f"on, pid {found.qemu_pid}" if found.qemu_pid else "off"
        typer.echo(f"{name}: BMC {'up' if found.is_up else 'down'}, power {power}, console {found.host.paths.console}")
