"""`qtrade images integrate`: the suite on the hosts that run a version."""

from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import VersionName, complete_environments
from qtrade.cli.options import AsJson, RecipeName
from qtrade.cli.prompts import console
from qtrade.errors import HostError, NotFound
from qtrade.reporter import print_document, tell
from qtrade.settings import Settings, load_settings

if TYPE_CHECKING:
    from qtrade.trust.fleet_facts import Integration


def register(app: typer.Typer, images: typer.Typer) -> None:
    """Add the command of this module to the group `images`."""
    del app
    images.command("integrate")(integrate)


def integrate(
    version: VersionName,
    *,
    recipe: RecipeName = "lab",
    env: Annotated[
        str,
        typer.Option("--env", help="Whose hosts; production asks for staging's.", autocompletion=complete_environments),
    ] = "staging",
    as_json: AsJson = False,
) -> None:
    """Prove every host that runs a version, the roles' specs included, and sign how it ended: `qtrade images integrate 1.4.0`."""
    from flash import integration  # noqa: PLC0415 - keeps `qtrade --help` quick

    settings = load_settings()
    said = integration.integrate(settings, recipe, version, console(settings), environment=env)
    if as_json:
        print_document("integration", said.model_dump(mode="json"))
    else:
        typer.echo(f"{env}: {recipe} {version} on {', '.join(said.hosts)}: {'passed' if said.passed else 'FAILED'}")
    require_passed(said)


def run_suite_after_promotion(settings: Settings, recipe: str, version: str) -> None:
    """Run the suite on staging's hosts that run what was just promoted; say what is next where none does, or nobody here may sign."""
    from flash import integration  # noqa: PLC0415

    try:
        said = integration.integrate(settings, recipe, version, console(settings))
    except NotFound as none:
        tell(f"the integration suite did not run: {none.brief}\nnext: {none.resolution}")
        return
    tell(f"integration suite on {', '.join(said.hosts)}: {'passed' if said.passed else 'FAILED'}")
    require_passed(said)


def require_passed(said: "Integration") -> None:
    """Raise `HostError` with each failure of a suite that did not pass."""
    if not said.passed:
        raise HostError(
            f"the integration suite failed on {said.environment}: {len(said.failures)} failure(s)",
            details="\n".join(f"  {one}" for one in said.failures),
            resolution="that is attested; mend it, and run `qtrade images integrate` again",
        )
