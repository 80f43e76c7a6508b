"""`qtrade bake`, `qtrade tools`."""

from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.options import AsJson, RecipeName
from qtrade.errors import UsageError, choose_from
from qtrade.look import width_of
from qtrade.reporter import ConsoleReporter, Timings, print_document
from qtrade.settings import Settings, load_settings

if TYPE_CHECKING:
    from qtrade.manifest import Recipe


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    bakes = typer.Typer(invoke_without_command=True)
    bakes.callback()(bake)
    bakes.command("shell")(shell)
    app.add_typer(bakes, name="bake")
    app.command("tools")(tools)


def bake(  # noqa: PLR0913 - the options of the command
    context: typer.Context,
    *,
    version: Annotated[str | None, typer.Option("--version", help="Version of the image; written once.")] = None,
    recipe: RecipeName = "lab",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, with the reason of each step, and stop.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show the plan with every input that changed since the last bake, and stop."),
    ] = False,
    only: Annotated[
        str | None, typer.Option("--only", metavar="LAYER", help="Make this layer and what it needs; publish nothing.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="LAYER", help="Make the layers up to this one; publish nothing.")
    ] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Make every layer again, hits too.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Bake a second time, elsewhere and at another time, and compare bytes first."),
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Write manifests/releases/RECIPE/VERSION.json, to be committed.")
    ] = False,
    cve_gate: Annotated[
        bool, typer.Option("--cve-gate", help="Publish only if no known vulnerability stops it (qtrade images cve).")
    ] = False,
    output: Annotated[
        list[str] | None, typer.Option("--output", help="Also write raw, qcow2 or netboot; may be given several times.")
    ] = None,
    boot_test: Annotated[
        bool, typer.Option("--boot-test", help="Boot the image in QEMU, by BIOS and by UEFI, and run the specs on it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bake a versioned, signed image: `qtrade bake --version 0.1.0 --recipe lab`.

    A bake goes on where the last one failed: finished layers are not made again. `qtrade bake shell LAYER` opens a shell in a layer.
    """
    if context.invoked_subcommand:
        return
    whole = {
        "--verify": verify,
        "--cve-gate": cve_gate,
        "--boot-test": boot_test,
        "--output": bool(output),
        "--record": record,
    }
    parts = {"--only": bool(only), "--until": bool(until)}
    _check_options(version, whole, parts, {"--dry-run": dry_run, "--explain": explain})
    from bake import run  # noqa: PLC0415 - keeps `qtrade --help` quick
    from bake.after import check_outputs, follow_up  # noqa: PLC0415
    from bake.plan import choose_all, choose_layers  # noqa: PLC0415
    from bake.plan_text import BakePlan  # noqa: PLC0415

    settings = load_settings()
    loaded = run.load_recipe(settings, recipe)
    if output:
        check_outputs(tuple(output))
    role = _layer(loaded, str(only or until)) if only or until else None
    choice = (
        choose_layers(loaded, role, only=bool(only), from_scratch=from_scratch)
        if role
        else choose_all(loaded, from_scratch=from_scratch)
    )
    if dry_run or explain:
        plan = BakePlan(loaded.name, version, run.plan(settings, loaded, choice), _timings(settings))
        if as_json:
            print_document("bake-plan", plan.document())
        else:
            typer.echo(plan.render(explain=explain, width=width_of()))
        return
    reporter = ConsoleReporter(timings=_timings(settings))
    if role:
        built = run.bake_layers(settings, loaded, role, reporter, only=bool(only), from_scratch=from_scratch)
        if as_json:
            print_document("layers", {"recipe": recipe, "built": built})
        else:
            typer.echo("\n".join(built))
        return
    result = run.bake(
        settings, loaded, str(version), reporter, from_scratch=from_scratch, verify=verify, cve_gate=cve_gate
    )
    files = follow_up(settings, result, reporter, record=record, boot_test=boot_test, outputs=tuple(output or ()))
    if as_json:
        document = {"recipe": recipe, "version": version, "id": result.image.id, "built": result.built}
        print_document("bake", {**document, "files": [str(file) for file in files]})
    else:
        typer.echo("\n".join([f"{recipe} {version} {result.image.id}", *(str(file) for file in files)]))


def shell(
    layer: Annotated[str, typer.Argument(help="Role of the layer.")],
    recipe: RecipeName = "lab",
    *,
    network: Annotated[bool, typer.Option("--network", help="With the machine's network.")] = False,
) -> None:
    """Open a shell in a layer: finished, as it was when its role failed, or before its role ran."""
    from bake import run  # noqa: PLC0415
    from bake.shell import open_shell  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415

    settings = load_settings()
    loaded = run.load_recipe(settings, recipe)
    code = open_shell(settings, open_store(settings), loaded, _layer(loaded, layer), network=network)
    raise typer.Exit(code)


def _check_options(version: str | None, whole: dict[str, bool], parts: dict[str, bool], plans: dict[str, bool]) -> None:
    """Raise `UsageError` for options that say nothing together. `whole` need a whole image, `parts` make less, `plans` make nothing."""
    asked, part, plan = (
        next((name for name, given in group.items() if given), None) for group in (whole, parts, plans)
    )
    if all(parts.values()):
        raise UsageError("--only and --until do not go together", resolution="give one of them")
    if part and version and not plan:
        raise UsageError(
            f"--version and {part} do not go together: {part} publishes nothing", resolution="leave one of them out"
        )
    if asked and (part or plan):
        why = "shows the plan and makes nothing" if plan else "makes layers and no image"
        raise UsageError(
            f"{asked} and {plan or part} do not go together: {plan or part} {why}", resolution="leave one of them out"
        )
    if version is None and not (plan or part):
        raise UsageError("which version?", resolution="give --version, for instance --version 0.1.0")


def _layer(recipe: "Recipe", role: str) -> str:
    roles = [layer.role for layer in recipe.layers]
    if role not in roles:
        raise UsageError(f"recipe {recipe.name} has no layer {role}", resolution=choose_from(role, roles))
    return role


def _timings(settings: Settings) -> Timings:
    return Timings(settings.state_dir / "timings.json")


def tools(recipe: RecipeName = "lab") -> None:
    """Make the tools root (QEMU, mkfs.erofs, GRUB) that the recipe's lock names, unless it is there."""
    from bake.lock.tools import provide_tools  # noqa: PLC0415

    typer.echo(provide_tools(load_settings(), recipe, ConsoleReporter()).root)
