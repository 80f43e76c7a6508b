"""`qtrade images sbom`, `images cve`, `images waive`, `images diff`, `images units`."""

import getpass
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from qtrade.cli.complete import complete_versions
from qtrade.cli.options import AsJson, RecipeName
from qtrade.reporter import print_document, tell
from qtrade.settings import load_settings


class SbomFormat(StrEnum):
    """The formats of an SBOM."""

    CYCLONEDX = "cyclonedx"
    SPDX = "spdx"


def register(app: typer.Typer, images: typer.Typer) -> None:
    """Add the commands of this module to the group `images`."""
    del app
    images.command("sbom")(sbom)
    images.command("cve")(cve)
    images.command("waive")(waive)
    images.command("diff")(diff)
    images.command("units")(units)


def sbom(
    version: Annotated[str, typer.Argument(help="Version of the image.", autocompletion=complete_versions)],
    recipe: RecipeName = "lab",
    form: Annotated[SbomFormat, typer.Option("--format", help="CycloneDX 1.6 or SPDX 2.3.")] = SbomFormat.CYCLONEDX,
) -> None:
    """Print the SBOM of an image as JSON: packages, components, kernel."""
    from bake.cve.report import read_inventory  # noqa: PLC0415 - keeps `qtrade --help` quick
    from bake.sbom import render  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415

    settings = load_settings()
    inventory = read_inventory(settings, open_store(settings), recipe, version)
    sys.stdout.write(render(inventory, form.value).decode())


def cve(  # noqa: PLR0913 - the options of the command
    version: Annotated[
        str | None,
        typer.Argument(help="Version of the image; all versions when left out.", autocompletion=complete_versions),
    ] = None,
    *,
    recipe: RecipeName = "lab",
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Show what is new since a version, or since the last scan by a day (YYYY-MM-DD).",
            autocompletion=complete_versions,
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="First fetch the security tracker's data; alone, do only that.")
    ] = False,
    attest: Annotated[
        bool, typer.Option("--attest", help="Sign what was found, good or bad, for those who promote (build key).")
    ] = False,
    url: Annotated[str | None, typer.Option("--url", help="Fetch from this mirror of the tracker's JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Scan published images for known vulnerabilities, without rebuilding them: `qtrade images cve 0.1.0 --update`."""
    from bake.attest import attest_scans  # noqa: PLC0415 - keeps `qtrade --help` quick
    from bake.cve.report import render_report, require_all_passed, scan_versions  # noqa: PLC0415
    from bake.cve.snapshot import TRACKER_URL, fetch_snapshot  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415
    from qtrade.trust.keyring import ensure_keyring  # noqa: PLC0415

    settings, now = load_settings(), datetime.now(UTC)
    if update:
        snapshot = fetch_snapshot(settings, url or TRACKER_URL, now)
        tell(f"snapshot {snapshot.sha256[:12]} of {snapshot.time.isoformat(timespec='minutes')}")
        if version is None and since is None and not attest:
            if as_json:
                print_document("cve-snapshot", snapshot.model_dump(mode="json"))
            return
    store, keyring = open_store(settings), ensure_keyring(settings)
    reports = scan_versions(settings, store, recipe, version, since, now=now, trusted=keyring.trust.promoters())
    if attest:
        attest_scans(store, keyring, (report.scan for report in reports))
    if as_json:
        print_document("cves", {"reports": [report.to_dict() for report in reports]})
    else:
        typer.echo("\n\n".join(render_report(report) for report in reports))
    require_all_passed(reports)


def waive(
    name: Annotated[str, typer.Argument(metavar="CVE", help="CVE to live with.")],
    *,
    package: Annotated[str, typer.Option("--package", help="Source package, as `images cve` names it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it does no harm here, or what is done about it.")],
    expires: Annotated[str, typer.Option("--expires", help="Last day on which the waiver counts (YYYY-MM-DD).")],
    by: Annotated[str | None, typer.Option("--by", help="Who decides; your account's name when left out.")] = None,
    recipe: RecipeName = "lab",
) -> None:
    """Write a signed waiver into manifests/waivers: `qtrade images waive CVE-2026-1 --package p --reason … --expires …`."""
    from bake.cve.waivers import add_waiver, parse_waiver  # noqa: PLC0415
    from qtrade.trust.keyring import ensure_keyring  # noqa: PLC0415

    settings = load_settings()
    fields = {"cve": name, "package": package, "reason": reason, "expires": expires, "by": by or getpass.getuser()}
    key = ensure_keyring(settings).signer("promote")
    typer.echo(add_waiver(settings, recipe, parse_waiver(fields), key, datetime.now(UTC).date()))


def diff(
    before: Annotated[
        str, typer.Argument(metavar="A", help="Version to compare from.", autocompletion=complete_versions)
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="Version to compare to.", autocompletion=complete_versions)],
    recipe: RecipeName = "lab",
    *,
    as_json: AsJson = False,
) -> None:
    """Show what two images differ in: packages, files, units, sysctls, firewall, ports, setuid, users, CVEs, sizes."""
    from bake.cve.report import read_inventory  # noqa: PLC0415
    from bake.diff import compare_images, render_diff  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415

    settings = load_settings()
    store = open_store(settings)
    inventories = [read_inventory(settings, store, recipe, version) for version in (before, after)]
    found = compare_images(settings, *inventories)
    if as_json:
        print_document("image-diff", found.to_dict())
    else:
        typer.echo(render_diff(found))


def units(
    version: Annotated[str, typer.Argument(help="Version of the image.", autocompletion=complete_versions)],
    recipe: RecipeName = "lab",
    *,
    as_json: AsJson = False,
) -> None:
    """Show how exposed the services of an image are (systemd-analyze security), against manifests/units.yaml."""
    from bake.exposure import measure_version, render_units, require_within  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415

    settings = load_settings()
    found = measure_version(settings, open_store(settings), recipe, version)
    if as_json:
        print_document("units", {"units": [unit.to_dict() for unit in found]})
    else:
        typer.echo(render_units(found))
    require_within(found)
