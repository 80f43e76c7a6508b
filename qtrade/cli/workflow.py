"""`qtrade workflow`: what steps of GitHub Actions call, besides the commands that people type."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtrade.cli.complete import complete_recipes
from qtrade.cli.options import AsJson, RecipeName
from qtrade.errors import QtradeError, Refused, UsageError
from qtrade.reporter import print_document
from qtrade.settings import load_settings

if TYPE_CHECKING:
    from qtrade.github.api import GitHub

_INPUTS, _STEPS, _NEEDS = "QTRADE_INPUTS", "QTRADE_STEPS", "QTRADE_NEEDS"
Title = Annotated[str, typer.Option("--title", help="Heading; for issues, what they are found by.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    workflow = typer.Typer(help="Steps of GitHub Actions (docs/workflows.md).", no_args_is_help=True)
    workflow.command("inputs")(inputs)
    workflow.command("secrets")(secrets)
    workflow.command("summary")(summary)
    workflow.command("propose")(propose)
    workflow.command("issue")(issue)
    workflow.command("require")(require)
    workflow.command("release")(release)
    app.add_typer(workflow, name="workflow")


def inputs(
    kind: Annotated[str, typer.Argument(help="layer, flash, push, rollback, promote, drift or nightly.")],
    *,
    layer: Annotated[str, typer.Option("--layer", help="Role, with layer: geyser.")] = "",
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", help="With nightly: the recipe where the inputs name none.", autocompletion=complete_recipes
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Check a workflow's inputs (JSON in QTRADE_INPUTS), find host and environment, and give later steps the checked values."""
    from flash.workflow_inputs import Asked, resolve_inputs  # noqa: PLC0415 - keeps `qtrade --help` quick
    from qtrade.github.runner import write_outputs  # noqa: PLC0415

    values = resolve_inputs(load_settings(), Asked(kind, os.environ.get(_INPUTS, ""), layer, recipe), datetime.now(UTC))
    write_outputs(values)
    if as_json:
        print_document("workflow-inputs", {"values": values})
    else:
        typer.echo("\n".join(f"{name}={value}" for name, value in values.items()))


def secrets(what: Annotated[str, typer.Argument(help="put or remove.")]) -> None:
    """Put the job's secrets (QTRADE_SECRET_*) into files on tmpfs, mode 600, and tell later steps where; or remove them."""
    from qtrade.github import tmpfs  # noqa: PLC0415
    from qtrade.github.runner import write_environment  # noqa: PLC0415

    if what == "remove":
        named = os.environ.get(tmpfs.FOLDER)
        gone = bool(named) and tmpfs.remove_folder(Path(named or ""))
        typer.echo("secrets are removed" if gone else "there are no secrets to remove")
        return
    if what != "put":
        raise UsageError(f"secrets can be put and removed, not {what!r:.40}", resolution="say put, or remove")
    given = tmpfs.given_secrets(os.environ)
    folder = tmpfs.make_folder()
    write_environment({tmpfs.FOLDER: str(folder)})  # before anything lies there, so that it is removed in any case
    write_environment(tmpfs.put_secrets(folder, given))
    typer.echo(f"{len(given)} secrets are in memory: {', '.join(sorted(given)) or 'none was given'}")


def summary(*, title: Title) -> None:
    """Write the run's page: how the steps (QTRADE_STEPS) ended, and what they worked on (QTRADE_HOST, _RECIPE, _VERSION, …)."""
    from qtrade.cli.workflow_page import render_page  # noqa: PLC0415
    from qtrade.github.runner import write_summary  # noqa: PLC0415

    text = render_page(load_settings(), title, os.environ.get(_STEPS, ""))
    write_summary(text)
    typer.echo(text)


def propose(
    *,
    branch: Annotated[str, typer.Option("--branch", help="Last part of the branch's name: pin-geyser, nightly.")],
    title: Title,
    recipe: RecipeName = "lab",
    as_json: AsJson = False,
) -> None:
    """Open a pull request with the recipes, locks and releases that this run changed; none where none did."""
    from qtrade.cli.workflow_page import run_address  # noqa: PLC0415
    from qtrade.github import proposal  # noqa: PLC0415
    from qtrade.github.runner import read_variable, write_outputs  # noqa: PLC0415

    project = load_settings().project
    paths = proposal.changed_files(project)
    if not paths:
        typer.echo("nothing changed: no pull request")
        return
    body = f"{_changes(project, recipe)}\n\nMade by {run_address()}"
    wanted = proposal.Proposal(
        f"{proposal.BRANCHES}/{branch}-{recipe}",
        title,
        body,
        read_variable("GITHUB_SHA", "the commit of the checkout"),
        read_variable("GITHUB_REF_NAME", "the branch of the checkout"),
    )
    with _github() as api:
        made = proposal.propose(api, project, wanted, paths)
    write_outputs({"pull_request": str(made.number), "url": made.url})
    if as_json:
        print_document(
            "pull-request", {"number": made.number, "url": made.url, "new": made.is_new, "files": list(paths)}
        )
    else:
        typer.echo(f"{'opened' if made.is_new else 'updated'} {made.url}: {', '.join(paths)}")


def issue(
    *,
    title: Title,
    resolved: Annotated[bool, typer.Option("--resolved", help="All is well again: close the issue.")] = False,
) -> None:
    """Open an issue of a run that failed, or tell more in the one that is open; with --resolved, close it."""
    from qtrade.cli.workflow_page import run_address  # noqa: PLC0415
    from qtrade.github.issues import tell_failure, tell_success  # noqa: PLC0415
    from qtrade.github.summary import read_outcomes  # noqa: PLC0415

    outcomes = read_outcomes(os.environ.get(_NEEDS, ""))
    ended = "\n".join(f"- {name}: {how}" for name, how in outcomes.items())
    with _github() as api:
        if resolved:
            told = tell_success(api, title, f"Well again: {run_address()}")
        else:
            told = tell_failure(api, title, f"{run_address()}\n\n{ended}")
    typer.echo(f"{told.done} {told.url}".strip())


def require() -> None:
    """Fail unless every job that this one needs (QTRADE_NEEDS) has succeeded."""
    from qtrade.github.summary import read_outcomes  # noqa: PLC0415

    outcomes = read_outcomes(os.environ.get(_NEEDS, ""))
    bad = {name: how for name, how in outcomes.items() if how != "success"}
    if bad or not outcomes:
        told = ", ".join(f"{name} {how}" for name, how in bad.items()) or "no job is named"
        cure = (
            "look at those jobs"
            if bad
            else f"name them in the job's `needs`, and give {_NEEDS} `${{{{ toJSON(needs) }}}}`"
        )
        raise Refused(f"not all jobs have succeeded: {told}", resolution=cure)
    typer.echo(f"{len(outcomes)} jobs have succeeded")


def release(
    *,
    tag: Annotated[str, typer.Option("--tag", help="The pushed tag: v1.2.3.")],
    files: Annotated[Path, typer.Option("--files", help="Folder with the files of the release.")] = Path("dist"),
    check: Annotated[bool, typer.Option("--check", help="Only see that tag, version and changelog agree.")] = False,
) -> None:
    """Publish a release of qtrade on GitHub: the changelog's words, the built files."""
    from qtrade import __version__  # noqa: PLC0415
    from qtrade.github.releases import check_tag, publish_release, release_notes  # noqa: PLC0415

    check_tag(tag, __version__)
    notes = release_notes((load_settings().project / "CHANGELOG.md").read_text(), __version__)
    if check:
        typer.echo(notes)
        return
    found = sorted(path for path in files.glob("*") if path.is_file())
    if not found:
        raise QtradeError(f"{files} holds no files", resolution="build them first: `make wheel`")
    with _github() as api:
        typer.echo(publish_release(api, tag, notes, found))


def _github() -> "GitHub":
    from qtrade.github.api import GitHub  # noqa: PLC0415

    return GitHub.of_this_run()


def _changes(project: Path, recipe: str) -> str:
    from bake.lock.difference import describe_change  # noqa: PLC0415
    from qtrade.github.proposal import difference, file_before  # noqa: PLC0415

    path = f"manifests/images/{recipe}.lock.json"
    locked = describe_change(file_before(project, path), project / path)
    return "\n\n".join(f"```diff\n{text.strip()}\n```" for text in (difference(project), locked) if text.strip())
