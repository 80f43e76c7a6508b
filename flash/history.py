"""What was deployed, as the store's history tells it, and the file that says which version each host of an environment runs."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from flash.inventory import environment_named, list_hosts, load_host
from flash.states import State
from qtrade.look import write_time
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
    runs = running_versions(store, {name: host.recipe for name, host in hosts.items()})
    channel = channel_of(environment)
    pointers = {recipe: store.channel(recipe, channel) for recipe in store.recipes()}
    return EnvironmentRelease(
        environment,
        {recipe: pointer.version for recipe, pointer in pointers.items() if pointer is not None},
        runs,
    )


def running_versions(store: Store, recipes: Mapping[str, str]) -> dict[str, RunningVersion]:
    """Return what hosts run, by name, for the recipes of hosts by name. No more is read than it takes."""
    history = History(store.objects)
    seen = {name: _Seen(recipe) for name, recipe in recipes.items()}
    waiting = set(seen)
    for mark in history.marks():
        if not waiting:
            break
        if mark.host in waiting and mark.kind in _MOVES_VERSION:
            past = history.open(mark)
            if past is not None and seen[mark.host].take(past):
                waiting.discard(mark.host)
    return {name: one.running for name, one in seen.items()}


def decide_running(recipe: str, deploys: Iterable[Past]) -> RunningVersion:
    """Return what a host runs after its `deploys`, newest first."""
    seen = _Seen(recipe)
    for one in deploys:
        if one.deploy.kind in _MOVES_VERSION and seen.take(one):
            break
    return seen.running


class _Seen:
    """What the deploys of a host have told so far, from the newest back."""

    def __init__(self, recipe: str) -> None:
        self.running = RunningVersion(recipe)

    def take(self, one: Past) -> bool:
        """Take a deploy in; say whether that settles what the host runs."""
        deploy, ending, unsettled = one.deploy, one.ending, self.running.unsettled
        if ending.version:
            run = deploy.actor.run
            self.running = RunningVersion(
                self.running.recipe,
                ending.version,
                ending.image,
                write_time(ending.at),
                deploy.actor.who,
                f"{run.repository} {run.id}".strip() if run else None,
                unsettled,
            )
            return True
        if unsettled is None and ending.state not in _AS_BEFORE:
            stands = (
                "has no end yet" if ending.outcome is Outcome.UNKNOWN else f"ended {ending.state or ending.outcome}"
            )
            unsettled = f"{deploy.kind} of {deploy.version or 'an earlier version'} at {write_time(deploy.at)} {stands}"
            self.running = replace(self.running, unsettled=unsettled)
        return False


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
        write_time(deploy.at),
        deploy.environment,
        f"{deploy.kind} {what} {deploy.recipe} {deploy.version}".rstrip(),
        f"{came}{state}{f' -> {reached}' if reached else ''}",
        f"by {deploy.actor.describe()}",
        ending.error,
    )
    return "  ".join(filter(None, parts))
