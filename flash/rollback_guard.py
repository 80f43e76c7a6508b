"""Which installed image a host may go back to: it is installed, not revoked, not blocked, has a config, and reads the data on the disks.

Asked before a single rollback, and of all hosts before a rollout is undone. Whether the host signs is asked by `flash.identity.guard`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flash.identity.guard import refuse_holder
from flash.trust import check_not_revoked, load_installed
from flash.written_data import find_installed, refuse_far_data
from qtrade.errors import NotFound, Refused
from qtrade.manifest import Host, Image
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.store.blocks import why_blocked
from qtrade.store.order import version_order
from qtrade.trust.keyring import ensure_keyring

_SERVER = re.compile(r"(?:\S+ )*/?usr/lib/postgresql/(\d+)/bin/postgres")


@dataclass(frozen=True)
class Target:
    """The image to go back to; `image` is None where the store does not have it any more."""

    id: str
    image: Image | None
    version: str


def choose_target(settings: Settings, store: Store, host: Host, status: Mapping[str, Any], to: str | None) -> Target:
    """Return what a rollback of the host would boot: version `to`, else the one before. Raises `Refused`, `NotFound`, `TrustError`."""
    # An image that was never committed is left for the default, not for the one before it.
    committed = status["image"] in (status["default"], status["previous"])
    wanted = status["previous"] if committed else status["default"]
    if to:
        wanted = load_installed(store, host.recipe, to, ensure_keyring(settings).trust).image.id
    if not wanted or wanted not in status["installed"]:
        raise Refused(
            f"{host.name} has no {f'version {to}' if to else 'previous version'} installed",
            details=f"installed: {', '.join(_called(store, host, image) for image in status['installed'])}",
            resolution="name one of these with --to, or flash another" if not to else "flash that version instead",
        )
    image = find_installed(store, host.recipe, wanted)
    return Target(wanted, image, image.version if image is not None else to or "")


def _called(store: Store, host: Host, image_id: str) -> str:
    image = find_installed(store, host.recipe, image_id)
    return image.version if image is not None else f"{image_id[:16]}…"


def check_target(settings: Settings, store: Store, host: Host, status: Mapping[str, Any], target: Target) -> None:
    """Raise the first reason why the host may not go back to it."""
    for check in _checks(settings, store, host, status, target):
        check()


def reasons_against(
    settings: Settings, store: Store, host: Host, status: Mapping[str, Any], target: Target
) -> tuple[str, ...]:
    """Return every reason why the host may not go back to it."""
    return tuple(_refusals((partial(refuse_holder, store, host.name), *_checks(settings, store, host, status, target))))


def _checks(
    settings: Settings, store: Store, host: Host, status: Mapping[str, Any], target: Target
) -> tuple[Callable[[], None], ...]:
    found = [
        partial(check_not_revoked, store, target.id, ensure_keyring(settings).trust),
        partial(refuse_blocked, store, target),
        partial(require_config, status, host.name, target.id),
    ]
    if target.image is not None:
        found += [
            partial(refuse_far_data, settings, host, target.image, status),
            partial(refuse_other_server, store, host, target.image, status),
            partial(refuse_contracted, host, target.image, status),
        ]
    return tuple(found)


def _refusals(checks: tuple[Callable[[], None], ...]) -> Iterator[str]:
    for check in checks:
        try:
            check()
        except Refused as error:
            yield error.brief


def refuse_blocked(store: Store, target: Target) -> None:
    """Raise `Refused` for an image that a rollout found bad."""
    why = why_blocked(store, target.id)
    if why:
        raise Refused(
            f"{target.version or target.id[:16]} is blocked: {why}",
            resolution="go back to another version with --to; where it was a false alarm, run `qtrade images unblock`",
        )


def require_config(status: Mapping[str, Any], host: str, wanted: str) -> None:
    """Raise `Refused` when the host keeps no config generation that the image fits; older agents do not say."""
    generations = status.get("generations")
    if generations is not None and wanted not in generations:
        raise Refused(
            f"{host} keeps no config generation for {wanted[:16]}…: it would boot without addresses and keys",
            details="generations: "
            + (", ".join(f"{one[:16]}… {number}" for one, number in generations.items()) or "none"),
            resolution="flash that version instead; it brings its config along",
        )


def refuse_other_server(store: Store, host: Host, image: Image, status: Mapping[str, Any]) -> None:
    """Raise `Refused` when the image's PostgreSQL is of another major than the one that runs: its cluster would not start.

    What is in an image is known by the paths of its layers; where the store has them no more, nothing is refused.
    """
    runs = find_installed(store, host.recipe, status["image"])
    now, then = (servers_of(store, one) if one is not None else frozenset() for one in (runs, image))
    if now and then and not now & then:
        raise Refused(
            f"{host.name} runs PostgreSQL {', '.join(sorted(now))}, {image.version} has {', '.join(sorted(then))}: it does not "
            "read the cluster on the disk",
            details="the database would stay down; what was written since the upgrade would be missing in an older copy",
            resolution="flash a version with the same major, or restore the cluster by docs/runbooks/postgres.md",
        )


def refuse_contracted(host: Host, image: Image, status: Mapping[str, Any]) -> None:
    """Raise `Refused` when migrations of the running image took away what the image reads; older agents do not say."""
    for role, last in sorted((status.get("contracts") or {}).items()):
        if version_order(image.version) <= version_order(last):
            raise Refused(
                f"{host.name}: the schema of {role} was contracted after {last}, and {image.version} reads what is gone",
                details="migrations that only expand let an older image go on; one that contracts does not",
                resolution="go back to a later version, or restore the database by docs/runbooks/postgres.md",
            )


def servers_of(store: Store, image: Image) -> frozenset[str]:
    """Return the majors of the PostgreSQL servers that an image holds, as far as the paths of its layers are known."""
    found: set[str] = set()
    for layer in image.layers:
        record = store.find_record(layer.key)
        if record is None or record.digest != layer.digest:
            continue
        try:
            paths = store.paths(record)
        except NotFound:
            continue
        found.update(match[1] for path in paths if (match := _SERVER.fullmatch(path)))
    return frozenset(found)
