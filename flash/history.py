"""What was deployed, as the store's history tells it, and the file that says which version each host of an environment runs."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flash.inventory import environment_named, list_hosts, load_host
from flash.states import State
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.store.history import History, Kind, Outcome, Past
from qtrade.trust.policy import channel_of

_RELEASES = "manifests/releases"
_HEAD = "# Written by `qtrade history --env {} --write` from the store's history; changed by nobody else.\n"
# After these a host runs what it ran before.
_AS_BEFORE = (State.FAILED_SAFE, State.ROLLED_BACK)
_MOVES_VERSION = (Kind.FLASH, Kind.ROLLBACK, Kind.ABORT)


@dataclass(frozen=True)
class HistoryDocument:
    """What `qtrade history --json` prints; newest first. `written` is the file that `--write` wrote, empty without it."""

    deploys: tuple[Past, ...]
    written: str = ""
    schema_version: int = 1


@dataclass(frozen=True)
class RunningVersion:
    """What a host runs by its deploys; `version` is None where none is known. `unsettled` says why it may be another one by now."""

    recipe: str
    version: str | None = None
    image: str | None = None
    deployed_at: str | None = None
    by: str | None = None
    run: str | None = None
    unsettled: str | None = None


@dataclass(frozen=True)
class EnvironmentRelease:
    """The file `manifests/releases/<environment>.yaml`: where channels lead, by recipe, and what hosts run, by name."""

    environment: str
    channels: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, RunningVersion] = field(default_factory=dict)
    schema_version: int = 1


def read_history(settings: Settings, store: Store, *, environment: str, host: str, last: int) -> tuple[Past, ...]:
    """Return the newest deploys. Raises `NotFound` for an environment or a host that neither manifests nor history know."""
    if environment:
        environment_named(settings, environment)
    found = History(store.objects).read(environment=environment, host=host, last=last)
    if host and not found:
        load_host(settings, host)
    return found


def render_history(deploys: Iterable[Past]) -> str:
    """Return one line for each deploy."""
    return "\n".join(_line(one) for one in deploys) or "no deploys are recorded"


def make_release(settings: Settings, store: Store, environment: str) -> EnvironmentRelease:
    """Return what the hosts of an environment run, by the history. Raises `NotFound`, `BadInput`."""
    environment_named(settings, environment)
    manifests = [load_host(settings, name) for name in list_hosts(settings)]
    hosts = {host.name: host for host in manifests if host.environment == environment}
    by_host: dict[str, list[Past]] = {name: [] for name in hosts}
    for one in History(store.objects).read(environment=environment):
        if one.deploy.host in by_host:
            by_host[one.deploy.host].append(one)
    channel = channel_of(environment)
    pointers = {recipe: store.channel(recipe, channel) for recipe in store.recipes()}
    return EnvironmentRelease(
        environment,
        {recipe: pointer.version for recipe, pointer in pointers.items() if pointer is not None},
        {name: decide_running(host.recipe, by_host[name]) for name, host in hosts.items()},
    )


def decide_running(recipe: str, deploys: Iterable[Past]) -> RunningVersion:
    """Return what a host runs after its `deploys`, newest first."""
    unsettled = None
    for one in deploys:
        deploy, ending = one.deploy, one.ending
        if deploy.kind not in _MOVES_VERSION:
            continue
        if ending.version:
            run = deploy.actor.run
            return RunningVersion(
                recipe,
                ending.version,
                ending.image,
                _clock(ending.at),
                deploy.actor.who,
                f"{run.repository} {run.id}".strip() if run else None,
                unsettled,
            )
        if unsettled is None and ending.state not in _AS_BEFORE:
            stands = (
                "has no end yet" if ending.outcome is Outcome.UNKNOWN else f"ended {ending.state or ending.outcome}"
            )
            unsettled = f"{deploy.kind} of {deploy.version or 'an earlier version'} at {_clock(deploy.at)} {stands}"
    return RunningVersion(recipe, unsettled=unsettled)


def write_release(settings: Settings, release: EnvironmentRelease) -> Path:
    """Write the file of an environment, the same bytes for the same deploys, and return its path."""
    path = settings.project / _RELEASES / f"{release.environment}.yaml"
    fields: dict[str, Any] = {"schema_version": release.schema_version, **asdict(release)}
    fields["hosts"] = {
        name: {key: value for key, value in host.items() if value is not None or key == "version"}
        for name, host in sorted(fields["hosts"].items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(_HEAD.format(release.environment) + yaml.safe_dump(fields, sort_keys=False))
    fresh.replace(path)
    return path


def _line(one: Past) -> str:
    deploy, ending = one.deploy, one.ending
    what = deploy.host or f"channel {deploy.inputs.get('channel', deploy.environment)}"
    came = ending.outcome if ending.outcome is not Outcome.UNKNOWN else "no end written"
    state = f" {ending.state}" if ending.state else ""
    reached = " ".join(filter(None, (ending.version, ending.generation and f"generation {ending.generation}")))
    parts = (
        _clock(deploy.at),
        deploy.environment,
        f"{deploy.kind} {what} {deploy.recipe} {deploy.version}".rstrip(),
        f"{came}{state}{f' -> {reached}' if reached else ''}",
        f"by {deploy.actor.describe()}",
        ending.error,
    )
    return "  ".join(filter(None, parts))


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
