"""`qtrade images list`, `show`, `gc`."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from qtrade.cli.complete import VersionName, complete_recipes
from qtrade.cli.options import AsJson
from qtrade.cli.prompts import confirm_deletion
from qtrade.look import width_of
from qtrade.reporter import print_document, print_json, tell
from qtrade.settings import load_settings


def register(app: typer.Typer, images: typer.Typer) -> None:
    """Add the commands of this module to `images`, which is a group of `app`."""
    del app
    images.command("list")(list_images)
    images.command("show")(show_image)
    images.command("gc")(collect_garbage)


def list_images(
    *,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Only this recipe.", autocompletion=complete_recipes)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions in the store, with channels, the hosts that keep them, and stand-ins."""
    from qtrade.store import listing, open_store  # noqa: PLC0415 - keeps `qtrade --help` quick

    listed = listing.list_images(open_store(load_settings()), recipe)
    if as_json:
        print_document("images", {"images": [asdict(item) for item in listed]})
    else:
        typer.echo(listing.render_images(listed, width=width_of()))


def show_image(
    version: VersionName,
    *,
    recipe: Annotated[
        str, typer.Option("--recipe", help="Recipe in manifests/images.", autocompletion=complete_recipes)
    ] = "lab",
) -> None:
    """Print the image document of a version."""
    from qtrade.store import open_store  # noqa: PLC0415

    print_json(open_store(load_settings()).read(recipe, version).document())


def collect_garbage(
    *,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Keep the last N versions of each recipe.")] = 20,
    within_days: Annotated[float, typer.Option("--within-days", min=0, help="Keep what is younger.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete versions beyond the last N and older than M days, and the blobs that nothing needs any more.

    What a host keeps installed, a channel points at or a lock names is never deleted.
    """
    from bake.lock.check import locked_blobs  # noqa: PLC0415
    from qtrade.store import gc, open_store  # noqa: PLC0415

    settings = load_settings()
    rules = gc.Rules(keep=keep, within_days=within_days, named=locked_blobs(settings))
    store = open_store(settings)
    garbage = gc.plan_collection(store, rules)
    if not dry_run:
        if not garbage.is_empty:
            tell(gc.render_garbage(garbage, width=width_of(sys.stderr)))
            confirm_deletion("images gc", yes=yes)
        garbage = gc.collect(store, rules, garbage)
    if as_json:
        print_document("garbage", {**asdict(garbage), "deleted": not dry_run})
    else:
        typer.echo(gc.render_garbage(garbage, verb="would delete" if dry_run else "deleted", width=width_of()))
