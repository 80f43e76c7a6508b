"""`qtrade config`."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qtrade.cli.complete import complete_versions
from qtrade.cli.options import AsJson, HostName
from qtrade.errors import NotFound
from qtrade.reporter import print_document
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from flash.values import Resolved

_SHOWN_CHARACTERS = 60


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    config = typer.Typer(help="Config of hosts.", no_args_is_help=True)
    config.command("show")(show)
    app.add_typer(config, name="config")


def show(
    *,
    host: HostName,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            help="Version of the image; the one that a flash would take if left out.",
            autocompletion=complete_versions,
        ),
    ] = None,
    why: Annotated[
        str | None, typer.Option("--why", metavar="NAME", help="Only this value, with all places that give it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a host's config values and where each comes from: `qtrade config show --host rpc-1 --why agave_rpc_bind`.

    Roles declare values and their defaults. Above these stand the environment's `config`, its `roles` and the host's `config`.
    """
    from flash.inventory import load_environment, load_host  # noqa: PLC0415 - keeps `qtrade --help` quick
    from flash.trust import choose_version, load_installed  # noqa: PLC0415
    from flash.values import resolve_values  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415
    from qtrade.trust.keyring import load_keyring  # noqa: PLC0415

    settings = load_settings()
    manifest = load_host(settings, host)
    environment, store = load_environment(settings, manifest), open_store(settings)
    chosen = version or choose_version(store, manifest, environment)
    image = load_installed(store, manifest.recipe, chosen, load_keyring(settings).trust).image
    values = resolve_values(manifest, environment, image)
    if why is not None and why not in values:
        raise NotFound(
            f"{image.name} {image.version} knows no value {why}",
            details=f"known: {', '.join(sorted(values))}",
            resolution="correct the name, or leave --why out for all values",
        )
    wanted = values if why is None else {why: values[why]}
    if as_json:
        document = {name: _document(one) for name, one in wanted.items()}
        fields = {"host": host, "image": {"name": image.name, "version": image.version}, "values": document}
        print_document("config", fields)
    elif why is None:
        width = max(map(len, values), default=0)
        for name, one in sorted(values.items()):
            typer.echo(f"{name:{width}}  {_text(one.value, _SHOWN_CHARACTERS)}  ({one.given[-1].place})")
    else:
        _print_reasons(why, values[why])


def _document(one: "Resolved") -> dict[str, Any]:
    given = [{"place": place.place, "value": place.value} for place in one.given]
    return {"value": one.value, "from": given[-1]["place"], "given": given, "type": one.declared.type, "role": one.role}


def _print_reasons(name: str, one: "Resolved") -> None:
    typer.echo(f"{name} ({one.declared.type}, of {one.role}): {one.declared.description or 'no description'}")
    for place in reversed(one.given):
        typer.echo(f"  {'*' if place is one.given[-1] else ' '} {place.place}: {_text(place.value)}")


def _text(value: Any, most: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if most is None or len(text) <= most else f"{text[: most - 1]}…"
