"""The options that mean the same in every command."""

from typing import Annotated

import typer

from qtrade.cli.complete import complete_hosts, complete_recipes

RecipeName = Annotated[
    str, typer.Option("--recipe", help="Recipe in manifests/images.", autocompletion=complete_recipes)
]
HostName = Annotated[
    str, typer.Option("--host", help="Host in manifests/hosts, or a lab host.", autocompletion=complete_hosts)
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
