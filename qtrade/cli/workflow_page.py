"""The page of a workflow's run: what qtrade knows of what its steps did."""

import os
from pathlib import Path

from qtrade.github.api import GitHub
from qtrade.github.proposal import open_pins
from qtrade.github.summary import read_outcomes, render_summary
from qtrade.github.tmpfs import FOLDER, given_secrets, hide_kept
from qtrade.settings import Settings

# Variable of a step -> how it is called on the page.
_FACTS = {
    "QTRADE_HOST": "host",
    "QTRADE_ENVIRONMENT": "environment",
    "QTRADE_RECIPE": "recipe",
    "QTRADE_VERSION": "version",
    "QTRADE_PIN": "pinned",
    "QTRADE_SET": "set",
    "QTRADE_CHANNEL": "channel",
    "QTRADE_DOOR": "door",
    "QTRADE_PULL_REQUEST": "pull request",
    "GITHUB_ACTOR": "by",
    "GITHUB_SHA": "commit",
}


def render_page(settings: Settings, title: str, steps: str) -> str:
    """Return the page as Markdown. Raises `BadInput` for steps that are none, and the errors of GitHub's API where it is asked."""
    # None of them is ever shown, wherever it may have come from.
    given_secrets(os.environ)
    if folder := os.environ.get(FOLDER):
        hide_kept(Path(folder))
    facts = {shown: os.environ.get(name, "") for name, shown in _FACTS.items()}
    recipe, version = os.environ.get("QTRADE_RECIPE", ""), os.environ.get("QTRADE_VERSION", "")
    if recipe and version:
        facts |= _image(settings, recipe, version)
    lists = {"Flash": _flash(settings, os.environ.get("QTRADE_HOST", ""))}
    if os.environ.get("GITHUB_TOKEN"):
        with GitHub.of_this_run() as api:
            lists["Open pins, which an image of this branch does not have"] = tuple(
                f"{one.title}: {one.url}" for one in open_pins(api)
            )
    return render_summary(title, facts, read_outcomes(steps), lists)


def run_address() -> str:
    """Return where this run is shown, or `a run outside of GitHub`."""
    server, repository, run = (os.environ.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else "a run outside of GitHub"


def _image(settings: Settings, recipe: str, version: str) -> dict[str, str]:
    from qtrade.errors import QtradeError  # noqa: PLC0415
    from qtrade.manifest import Image  # noqa: PLC0415
    from qtrade.store import open_store  # noqa: PLC0415

    try:
        image = Image.model_validate_json(open_store(settings).read(recipe, version).image_text)
    except QtradeError:  # the run failed before there was one: the steps tell
        return {}
    parts = ", ".join(f"{part.name} {part.version}" for part in image.components)
    return {"image": image.id, "components": parts}


def _flash(settings: Settings, host: str) -> tuple[str, ...]:
    from flash.journal import latest  # noqa: PLC0415

    journal = latest(settings.state_dir / "flashes" / host) if host else None
    entries = journal.entries if journal else ()
    return tuple(f"{one.state} after {one.at - entries[0].at:.0f} s" for one in entries)
