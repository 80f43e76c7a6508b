"""`qtrade secrets rotate`: bring a new value from its source, or a fresh one, to the hosts that use it, and see that they have it."""

import secrets as random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash.inventory import list_hosts, load_environment, load_host, manifest_place
from flash.push import Order
from flash.push_many import Outcome, plan_hosts, push_hosts
from flash.push_plan import PushPlan
from flash.secrets import ansible_vault, kv
from flash.secrets.references import Reference, SecretKind, kv_access, parse_reference
from qtrade.errors import HostError, NotFound, QtradeError, Refused
from qtrade.manifest import Environment, Host
from qtrade.redaction import register_secret
from qtrade.reporter import Reporter
from qtrade.settings import Settings

_BYTES = 32
Ask = Callable[[Sequence[PushPlan]], None]


@dataclass(frozen=True)
class Rotated:
    """What became of the secret on one host. `sent` is false where the host had the value; `verified` says that it has it now."""

    host: str
    sent: bool
    units: tuple[str, ...]
    verified: bool
    error: QtradeError | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "host": self.host, "sent": self.sent, "units": list(self.units), "verified": self.verified,
            "error": self.error.brief if self.error else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Rotation:
    """What is to be rotated: the secret's name, the hosts that are sent it, and others that use the same source."""

    name: str
    hosts: tuple[Host, ...]
    others: tuple[str, ...]


def find_rotation(settings: Settings, name: str, *, host: str | None, environment: str | None) -> Rotation:
    """Return who uses the secret. Raises `NotFound` when nobody does, `BadInput`, `Refused` as for any reference."""
    every = tuple(load_host(settings, one) for one in list_hosts(settings))
    chosen = (load_host(settings, host),) if host else tuple(one for one in every if one.environment == environment)
    users = tuple(one for one in chosen if name in one.secrets)
    if not users:
        raise NotFound(
            f"no host of {host or f'environment {environment}'} has a secret {name}",
            details=f"known there: {', '.join(sorted({key for one in chosen for key in one.secrets})) or 'none'}",
            resolution="correct the name, or write it into `secrets` of the host's manifest",
        )
    sources = {_reference(settings, one, name) for one in users}
    others = tuple(
        f"{one.name} (secrets.{key})"
        for one in every
        if one.environment == users[0].environment
        for key in sorted(one.secrets)
        if (one.name, key) not in {(user.name, name) for user in users}
        and _reference_or_none(settings, one, key) in sources
    )
    return Rotation(name, users, others)


def rotate(
    settings: Settings, rotation: Rotation, reporter: Reporter, ask: Ask, *, generate: bool = False
) -> tuple[Rotated, ...]:
    """Send the value that its source has now, or has from now on with `generate`, and look whether the hosts have it.

    Nothing is written before every host answered and `ask` agreed. Raises `Refused`, `HostError`, and as `resolve`.
    """
    order, names = Order(secret=rotation.name), [host.name for host in rotation.hosts]
    agreed: Ask = ask
    if generate:
        _check_source(settings, rotation)
        ask(_require_all(plan_hosts(settings, names, reporter, order)))
        for host, reference in _sources(settings, rotation):
            _write(settings, host, rotation.name, reference)
        agreed = lambda _: None  # noqa: E731 - asked already
    outcomes = push_hosts(settings, names, reporter, agreed, order)
    after = {
        one.host: one for one in plan_hosts(settings, [one.host for one in outcomes if one.result], reporter, order)
    }
    return tuple(_judge(one, after.get(one.host)) for one in outcomes)


def _judge(done: Outcome, after: Outcome | None) -> Rotated:
    """Say what became of a host: only one that would be sent nothing more has the value."""
    if done.result is None or after is None:
        return Rotated(done.host, False, (), False, done.error)
    verified = after.plan is not None and after.plan.is_empty
    error = after.error
    if not verified and error is None:
        error = HostError(
            f"{done.host} does not have the value that was sent to it", resolution="run the same command again"
        )
    return Rotated(done.host, done.result.changed, done.result.units, verified, error)


def _require_all(outcomes: Sequence[Outcome]) -> list[PushPlan]:
    for one in outcomes:
        if one.error is not None:
            raise one.error
    return [one.plan for one in outcomes if one.plan is not None]


def _check_source(settings: Settings, rotation: Rotation) -> None:
    if rotation.others:
        raise Refused(
            f"others use the same source as {rotation.name} and would go on with the old value",
            details=", ".join(rotation.others),
            resolution="rotate with --env, under the one name; or give them sources of their own",
        )
    for host, reference in _sources(settings, rotation):
        where = f"{manifest_place(settings, host)}: secrets.{rotation.name}"
        if reference.kind is SecretKind.ENV:
            raise Refused(
                f"{where}: {reference} cannot be written", resolution="set the variable anew, and leave --generate out"
            )
        if reference.version is not None:
            raise Refused(
                f"{where}: {reference} names one version, which never changes",
                resolution="leave @VERSION out of the reference, or write the new one there",
            )


def _sources(settings: Settings, rotation: Rotation) -> list[tuple[Host, Reference]]:
    """Return each source once, with a host that refers to it."""
    found = {_reference(settings, host, rotation.name): host for host in rotation.hosts}
    return [(host, reference) for reference, host in found.items()]


def _write(settings: Settings, host: Host, name: str, reference: Reference) -> None:
    """Write a fresh value into its source."""
    environment = load_environment(settings, host)
    where, value = f"{manifest_place(settings, host)}: secrets.{name}", random.token_urlsafe(_BYTES)
    register_secret(value)
    if reference.kind is SecretKind.VAULT:
        # The old value's last day is not the new one's.
        ansible_vault.write_vault(
            settings, environment, where, Path(reference.place), {reference.key: value},
            drop=(f"{reference.key}{ansible_vault.EXPIRES}",),
        )  # fmt: skip
    else:
        kv.reader_for(settings, environment.name, kv_access(environment, where)).write(where, reference, value)


def _reference(settings: Settings, host: Host, name: str) -> Reference:
    environment: Environment = load_environment(settings, host)
    where = f"{manifest_place(settings, host)}: secrets.{name}"
    return parse_reference(settings, environment, where, host.secrets[name])


def _reference_or_none(settings: Settings, host: Host, name: str) -> Reference | None:
    try:
        return _reference(settings, host, name)
    except QtradeError:
        return None
