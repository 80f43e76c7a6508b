"""`qtrade schema`: what files may hold, and what `--json` prints, as JSON Schemas."""

from typing import Annotated

import typer

from qtrade.errors import NotFound, choose_from
from qtrade.reporter import print_json


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("schema")(schema)


def schema(
    name: Annotated[str | None, typer.Argument(help="A kind of file, such as host, or a document of --json.")] = None,
) -> None:
    """Print the JSON Schema of a file that people write or of a document that `--json` prints; without NAME, list them."""
    from qtrade.cli.documents import all_schemas  # noqa: PLC0415 - keeps `qtrade --help` quick

    known = all_schemas()
    if name is None:
        typer.echo("\n".join(sorted(known)))
    elif name not in known:
        raise NotFound(f"there is no schema {name}", resolution=choose_from(name, known))
    else:
        print_json(known[name])
