"""`qtrade images export`, `qtrade images test`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from qtrade.cli.complete import VersionName
from qtrade.cli.options import AsJson, RecipeName
from qtrade.errors import UsageError, choose_from
from qtrade.reporter import ConsoleReporter, Timings, print_document
from qtrade.settings import load_settings


def register(app: typer.Typer, images: typer.Typer) -> None:
    """Add the commands of this module to the group `images`."""
    del app
    images.command("export")(export_image)
    images.command("test")(boot_image)


def export_image(  # noqa: PLR0913 - one parameter per option
    version: VersionName,
    *,
    output: Annotated[
        list[str], typer.Option("--output", help="raw (with block map), qcow2 or netboot; may be given several times.")
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder; outputs/<recipe>/<version> of the state directory if left out.")
    ] = None,
    system_mib: Annotated[int, typer.Option("--system-mib", min=512, help="Size of the system partition.")] = 8192,
    state_mib: Annotated[int, typer.Option("--state-mib", min=128, help="Size of the state partition.")] = 2048,
    recipe: RecipeName = "lab",
    as_json: AsJson = False,
) -> None:
    """Write a version as a whole disk or a netboot set: `qtrade images export 0.1.0 --output raw`. Needs no root."""
    from bake.after import check_outputs  # noqa: PLC0415 - keeps `qtrade --help` quick
    from bake.output import DiskLayout, Kind, export  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415

    check_outputs(tuple(output))
    settings = load_settings()
    reporter = ConsoleReporter(timings=Timings(settings.state_dir / "timings.json"))
    layout = DiskLayout(system_mib=system_mib, state_mib=state_mib)
    kinds = [Kind(kind) for kind in output]
    result = export(settings, open_store(settings), recipe, version, kinds, to, reporter, layout=layout)
    if as_json:
        print_document("export", asdict(result) | {"folder": str(result.folder)})
    else:
        typer.echo("\n".join(str(result.folder / file.name) for file in result.files))


def boot_image(
    version: VersionName,
    *,
    firmware: Annotated[str | None, typer.Option("--firmware", help="bios or uefi; both when left out.")] = None,
    recipe: RecipeName = "lab",
    as_json: AsJson = False,
) -> None:
    """Boot a version in QEMU and run the roles' specs on it: `qtrade images test 0.1.0`. Needs no root.

    The result is signed, also of an image that fails; past development an image must have passed by both firmwares.
    """
    from bake.boot_test import boot_test  # noqa: PLC0415 - keeps `qtrade --help` quick
    from qtrade.machine.spec import Firmware  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415

    if firmware not in (None, *Firmware):
        raise UsageError(f"--firmware {firmware} is unknown", resolution=choose_from(str(firmware), Firmware))
    settings = load_settings()
    reporter = ConsoleReporter(timings=Timings(settings.state_dir / "timings.json"))
    store = open_store(settings)
    chosen = [Firmware(firmware)] if firmware else list(Firmware)
    results = [boot_test(settings, store, recipe, version, reporter, firmware=one) for one in chosen]
    if as_json:
        print_document("boot-tests", {"results": [asdict(result) for result in results]})
        return
    for result in results:
        ran, how = result.predicate["ran"], f"{result.predicate['firmware']}, {result.predicate['accel']}"
        typer.echo(f"{recipe} {version} {result.image_id}: {ran} specs hold on the booted image ({how})")
