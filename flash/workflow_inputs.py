"""The inputs of a workflow, resolved: which host is meant, of which environment, recipe and channel, and how the image is called."""

import json
import os
from dataclasses import dataclass
from datetime import datetime

from flash.inventory import find_host, list_hosts, load_host
from qtrade.errors import UsageError
from qtrade.github import inputs as given
from qtrade.settings import Settings
from qtrade.trust.policy import ENVIRONMENT_OF, channel_of


@dataclass(frozen=True)
class Asked:
    """What a workflow is asked for: its kind, the layer's role or the recipe where it has one, and the inputs as JSON."""

    kind: str
    inputs: str
    layer: str = ""
    recipe: str = ""


def resolve_inputs(settings: Settings, asked: Asked, now: datetime) -> dict[str, str]:
    """Return the values that later steps work with, by name; all are safe words.

    Raises `UsageError` for an unknown kind, and the errors of the inputs and of the manifests.
    """
    kinds = {
        "layer": lambda: _layer(settings, asked, now),
        "flash": lambda: _flash(settings, asked.inputs),
        "push": lambda: _push(settings, asked.inputs),
        "rollback": lambda: _rollback(settings, asked.inputs),
        "rollout": lambda: _rollout(asked.inputs),
        "promote": lambda: _promote(asked.inputs),
        "drift": lambda: _drift(settings, asked.inputs),
        "nightly": lambda: _nightly(asked, now),
    }
    if asked.kind not in kinds:
        raise UsageError(f"there is no workflow {asked.kind!r:.40}", resolution=f"use one of {', '.join(kinds)}")
    return kinds[asked.kind]()


def _layer(settings: Settings, asked: Asked, now: datetime) -> dict[str, str]:
    role, inputs = asked.layer, given.parse_layer(asked.layer, asked.inputs)
    return {
        **_host(settings, inputs.host),
        "version": inputs.image_version or _next_version(now),
        "pin": given.pins_of(role, inputs),
        "set": given.values_of(role, inputs),
        "branch": f"pin-{role.replace('_', '-')}",
    }


def _flash(settings: Settings, text: str) -> dict[str, str]:
    inputs = given.parse_inputs(given.Flash, text)
    return {
        **_host(settings, inputs.host),
        "version": inputs.version,
        "door": inputs.door or "",
        "first": _flag(inputs.first),
        "dry_run": _flag(inputs.dry_run),
    }


def _push(settings: Settings, text: str) -> dict[str, str]:
    inputs = given.parse_inputs(given.Push, text)
    if inputs.host is not None:
        return {**_host(settings, inputs.host), "target": "host", "dry_run": _flag(inputs.dry_run)}
    environment = inputs.environment or ""
    return {"host": "", "environment": environment, "target": "environment", "dry_run": _flag(inputs.dry_run)}


def _rollback(settings: Settings, text: str) -> dict[str, str]:
    inputs = given.parse_inputs(given.Rollback, text)
    return {**_host(settings, inputs.host), "version": inputs.version or ""}


def _rollout(text: str) -> dict[str, str]:
    """Return which step to run, and the lane of the job: an order must not wait in the queue behind the rollout that it is for."""
    inputs = given.parse_inputs(given.Rollout, text)
    lane = "work" if inputs.action in ("start", "resume", "undo") else "order"
    action = f"{inputs.action}_plan" if inputs.dry_run and inputs.action in ("start", "undo") else inputs.action
    target = f"{action}_to" if inputs.action == "undo" and inputs.version else action
    chosen = {"version": inputs.version or "", "recipe": inputs.recipe or ""}
    return {"environment": inputs.environment, "action": target, "lane": lane, **chosen}


def _promote(text: str) -> dict[str, str]:
    inputs = given.parse_inputs(given.Promote, text)
    channel = channel_of(inputs.environment)
    return {"recipe": inputs.recipe, "version": inputs.version, "environment": inputs.environment, "channel": channel}


def _drift(settings: Settings, text: str) -> dict[str, str]:
    inputs = given.parse_inputs(given.Drift, text)
    have_hosts = {load_host(settings, name).environment for name in list_hosts(settings)}
    wanted = (
        [inputs.environment] if inputs.environment else [one for one in ENVIRONMENT_OF.values() if one in have_hosts]
    )
    return {"environments": json.dumps(wanted)}


def _nightly(asked: Asked, now: datetime) -> dict[str, str]:
    inputs = given.parse_inputs(given.Nightly, asked.inputs)
    if not (inputs.recipe or asked.recipe):
        raise UsageError("which recipe?", resolution="set the repository's variable QTRADE_RECIPE, or give --recipe")
    return {"recipe": inputs.recipe or asked.recipe, "version": _next_version(now), "promote": _flag(inputs.promote)}


def _host(settings: Settings, text: str) -> dict[str, str]:
    host = find_host(settings, text)
    channel = channel_of(host.environment)
    return {"host": host.name, "environment": host.environment, "recipe": host.recipe, "channel": channel}


def _next_version(now: datetime) -> str:
    number, attempt = os.environ.get("GITHUB_RUN_NUMBER", ""), os.environ.get("GITHUB_RUN_ATTEMPT", "1")
    return given.next_version(now.date().isoformat(), number, attempt)


def _flag(value: bool) -> str:  # noqa: FBT001 - the one thing it renders
    return "true" if value else "false"
