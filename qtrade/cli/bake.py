"""`qtrade bake`, `qtrade images`, `qtrade tools`."""

from typing import Annotated

import typer

from qtrade.reporter import ConsoleReporter, Timings, print_json
from qtrade.settings import load_settings

RecipeName = Annotated[str, typer.Option("--recipe", help="Recipe in manifests/images.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("bake")(bake)
    app.command("tools")(tools)
    images = typer.Typer(help="Images in the store.", no_args_is_help=True)
    images.command("list")(list_images)
    images.command("show")(show_image)
    app.add_typer(images, name="images")


def bake(
    *,
    version: Annotated[str, typer.Option("--version", help="Version of the image; written once.")],
    recipe: RecipeName = "lab",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, with the reason of each step, and stop.")
    ] = False,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Make every layer again, hits too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bake a versioned, signed image: `qtrade bake --version 0.1.0 --recipe lab`."""
    from bake import run  # noqa: PLC0415 - keeps `qtrade --help` quick

    settings = load_settings()
    loaded = run.load_recipe(settings, recipe)
    if dry_run:
        steps = run.plan(settings, loaded)
        if as_json:
            print_json(
                [{"name": step.name, "action": step.action, "key": step.key, "reason": step.reason} for step in steps]
            )
        else:
            typer.echo("\n".join(f"{step.action:6} {step.name:15} {step.reason}" for step in steps))
        return
    reporter = ConsoleReporter(timings=Timings(settings.state_dir / "timings.json"))
    result = run.bake(settings, loaded, version, reporter, from_scratch=from_scratch)
    if as_json:
        print_json({"recipe": recipe, "version": version, "id": result.image.id, "built": result.built})
    else:
        typer.echo(f"{recipe} {version} {result.image.id}")


def tools() -> None:
    """Make the tools root (QEMU, mkfs.erofs, GRUB), unless it is there."""
    from qtrade.toolsroot import ensure_tools  # noqa: PLC0415

    typer.echo(ensure_tools(load_settings()).root)


def list_images(recipe: RecipeName = "lab", *, as_json: AsJson = False) -> None:
    """List the versions of a recipe that the store holds."""
    from qtrade.store import LocalStore  # noqa: PLC0415

    versions = LocalStore(load_settings().store).versions(recipe)
    if as_json:
        print_json(list(versions))
    else:
        typer.echo("\n".join(versions))


def show_image(version: str, recipe: RecipeName = "lab") -> None:
    """Print the image document of a version."""
    from qtrade.manifest import Image  # noqa: PLC0415
    from qtrade.store import LocalStore  # noqa: PLC0415

    published = LocalStore(load_settings().store).read(recipe, version)
    print_json(Image.model_validate_json(published.image_text).model_dump(mode="json"))
