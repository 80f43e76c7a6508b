"""`qtrade status`: everything at a glance, from store and state directory; hosts themselves are asked only with `live`."""

import time
from dataclasses import dataclass

from flash.drift.record import record_of
from flash.fleet import HostRow, look_over, render_hosts
from flash.inventory import list_environments
from qtrade.errors import QtradeError
from qtrade.look import write_time
from qtrade.settings import Settings
from qtrade.store import CHANNELS, Store, open_store
from qtrade.store.rollouts import Rollouts
from qtrade.trust.keyring import load_keyring


@dataclass(frozen=True)
class RecipeStatus:
    """A recipe in the store: where channels lead, and the version that was published last, when (UTC)."""

    recipe: str
    channels: dict[str, str]
    last_bake: str
    last_bake_at: str


@dataclass(frozen=True)
class DriftStatus:
    """A host whose drift a watch has told and not seen cured, and when it was told last (UTC)."""

    environment: str
    host: str
    told_at: str


@dataclass(frozen=True)
class RolloutLine:
    """The last rollout to an environment, as its controller published it last, at `at` (UTC)."""

    environment: str
    recipe: str
    version: str
    phase: str
    at: str


@dataclass(frozen=True)
class KeyStatus:
    """The trust set; `days_left` may be negative. `problem` says why there is none."""

    expires: str = ""
    days_left: int = 0
    lab: bool = False
    here: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class StatusDocument:
    """What `qtrade status --json` prints."""

    store: str
    hosts: tuple[HostRow, ...]
    recipes: tuple[RecipeStatus, ...]
    drift: tuple[DriftStatus, ...]
    rollouts: tuple[RolloutLine, ...]
    keys: KeyStatus


def read_status(settings: Settings, *, live: bool) -> StatusDocument:
    """Return how everything stands. Raises the store's errors."""
    store = open_store(settings)
    return StatusDocument(
        store=str(settings.store),
        hosts=look_over(settings, store, live=live),
        recipes=_recipes(store),
        drift=_drift(settings),
        rollouts=_rollouts(settings, store),
        keys=_keys(settings),
    )


def render_status(status: StatusDocument, *, width: int | None = None) -> str:
    """Return the status for people."""
    parts = [render_hosts(status.hosts, width=width), ""]
    for one in status.recipes:
        leads = ", ".join(f"{name} -> {version}" for name, version in one.channels.items()) or "on no channel"
        parts.append(f"{one.recipe}: {leads}; last published {one.last_bake} at {one.last_bake_at}")
    parts += [] if status.recipes else ["no image is in the store: `qtrade bake --version 0.1.0`"]
    parts += [f"drift: {one.host} ({one.environment}), told at {one.told_at}" for one in status.drift]
    parts += [
        f"rollout to {one.environment}: {one.recipe} {one.version} {one.phase}, last told at {one.at}"
        for one in status.rollouts
    ]
    keys = status.keys
    kind = "a lab's keys" if keys.lab else "keys"
    parts.append(
        f"keys: {keys.problem}" if keys.problem else f"{kind}: good until {keys.expires} ({keys.days_left} days)"
    )
    parts.append(f"store: {status.store}")
    return "\n".join(parts)


def _recipes(store: Store) -> tuple[RecipeStatus, ...]:
    newest: dict[str, tuple[float, str]] = {}
    for (recipe, version), entry in store.published().items():
        newest[recipe] = max(newest.get(recipe, (0.0, "")), (entry.modified_s, version))
    found = []
    for recipe, (at, version) in sorted(newest.items()):
        pointers = {name: store.channel(recipe, name) for name in CHANNELS}
        channels = {name: pointer.version for name, pointer in pointers.items() if pointer is not None}
        found.append(RecipeStatus(recipe, channels, version, write_time(at)))
    return tuple(found)


def _drift(settings: Settings) -> tuple[DriftStatus, ...]:
    found = []
    for environment in list_environments(settings):
        if not (settings.state_dir / "drift" / f"{environment}.json").is_file():
            continue
        with record_of(settings, environment) as record:
            told = sorted(record.told.items())
        found += [DriftStatus(environment, host, write_time(one.at)) for host, one in told if one.digest]
    return tuple(found)


def _rollouts(settings: Settings, store: Store) -> tuple[RolloutLine, ...]:
    rollouts = Rollouts(store.objects)
    found = (rollouts.read(environment) for environment in list_environments(settings))
    return tuple(
        RolloutLine(one.environment, one.recipe, one.version, one.phase, write_time(one.at)) for one in found if one
    )


def _keys(settings: Settings) -> KeyStatus:
    try:
        keyring = load_keyring(settings)
    except QtradeError as error:
        return KeyStatus(problem=f"{error.brief}; {error.resolution}".strip("; "))
    trust = keyring.trust
    days = int((trust.expires - time.time()) // 86400)
    return KeyStatus(time.strftime("%Y-%m-%d", time.gmtime(trust.expires)), days, trust.lab, keyring.here())
