"""`qtrade secrets check`: resolve every reference and show none of the values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import combinations
from pathlib import Path

from flash.inventory import IDENTITIES, environment_named, list_hosts, load_host, load_identities, manifest_place
from flash.secrets import ansible_vault, kv
from flash.secrets.references import Reference, SecretKind, parse_reference, vault_places
from flash.secrets.resolve import look_up
from flash.trust import choose_version, load_installed
from qtrade.errors import NotFound, QtradeError, Refused
from qtrade.manifest import Environment, Host
from qtrade.settings import Settings
from qtrade.store import open_store
from qtrade.trust.keyring import load_keyring

_ENVIRONMENTS = "manifests/environments"
# In a driver's fields, what is a reference.
_OF_DRIVERS = ("token", "client_secret", "password", "enrol.password")


class SecretState(StrEnum):
    """How a reference, or what nobody refers to, stands."""

    GOOD = "good"
    EXPIRES = "expires"
    EXPIRED = "expired"
    BROKEN = "broken"
    UNUSED = "unused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class SecretRow:
    """One line of the check: where it is written, the reference (never its value), how it stands, and since when or why.

    `exit_code` is that of the error's class, 0 where all is well or nobody needs to act now.
    """

    where: str
    reference: str
    state: SecretState
    told: str = ""
    cure: str = ""
    expires: str = ""
    exit_code: int = 0


def check_environment(settings: Settings, name: str, *, now: datetime | None = None) -> tuple[SecretRow, ...]:
    """Check all hosts of an environment, its own references, and what nobody refers to. Raises `NotFound`, `BadInput`."""
    environment = environment_named(settings, name)
    return _check(settings, environment, _hosts_of(settings, name), now, whole=True)


def check_host(settings: Settings, name: str, *, now: datetime | None = None) -> tuple[SecretRow, ...]:
    """Check one host. Raises `NotFound`, `BadInput`."""
    host = load_host(settings, name)
    return _check(settings, environment_named(settings, host.environment), (host,), now, whole=False)


def check_driver(settings: Settings, host: Host, *, online: bool, now: datetime | None = None) -> tuple[SecretRow, ...]:
    """Check the references of a host's driver only, those into HashiCorp Vault only `online`. Raises `NotFound`, `BadInput`."""
    environment = environment_named(settings, host.environment)
    named = _of_driver(settings, host)
    asked = [(where, text) for where, text in named if online or not text.startswith(f"{SecretKind.KV}:")]
    return tuple(_check_one(settings, environment, where, text, now or datetime.now(UTC)) for where, text in asked)


def exit_code(rows: Sequence[SecretRow]) -> int:
    """Return 0, the code of the one class that all problems have, or 1 for problems of several."""
    codes = {row.exit_code for row in rows if row.exit_code}
    return QtradeError.exit_code if len(codes) > 1 else next(iter(codes), 0)


def render_rows(rows: Sequence[SecretRow]) -> str:
    """Return the rows as lines for people."""
    lines = []
    for row in rows:
        told = f": {row.told}" if row.told else ""
        lines.append(f"{row.state:8} {row.where}{f' ({row.reference})' if row.reference else ''}{told}")
        lines += [f"         to mend it: {row.cure}"] if row.cure and row.state is not SecretState.GOOD else []
    return "\n".join(lines)


def _hosts_of(settings: Settings, environment: str) -> tuple[Host, ...]:
    every = (load_host(settings, name) for name in list_hosts(settings))
    return tuple(host for host in every if host.environment == environment)


def _check(
    settings: Settings, environment: Environment, hosts: Sequence[Host], now: datetime | None, *, whole: bool
) -> tuple[SecretRow, ...]:
    at = now or datetime.now(UTC)
    rows = [_check_one(settings, environment, where, text, at) for where, text in _of_hosts(settings, hosts)]
    rows += [row for host in hosts for row in _check_names(settings, environment, host)]
    if whole:
        own = _of_environment(settings, environment)
        rows += [_check_one(settings, environment, where, text, at) for where, text in own]
        rows += _find_unused(settings, environment, hosts)
        rows += _find_overlaps(settings, environment)
    return tuple(rows)


def _of_hosts(settings: Settings, hosts: Sequence[Host]) -> Iterator[tuple[str, str]]:
    for host in hosts:
        place = manifest_place(settings, host)
        yield from ((f"{place}: secrets.{name}", text) for name, text in sorted(host.secrets.items()))
        yield from _of_driver(settings, host)


def _of_driver(settings: Settings, host: Host) -> Iterator[tuple[str, str]]:
    place, driver = manifest_place(settings, host), host.driver.model_dump()
    within = {f"enrol.{name}": value for name, value in (driver.get("enrol") or {}).items()}
    fields = {**driver, **within}
    yield from ((f"{place}: driver.{name}", str(fields[name])) for name in _OF_DRIVERS if fields.get(name) is not None)


def _of_environment(settings: Settings, environment: Environment) -> Iterator[tuple[str, str]]:
    place, monitoring = f"{_ENVIRONMENTS}/{environment.name}.yaml", environment.monitoring
    if environment.monitor_set != "none":
        yield f"{place}: monitoring.api_key", monitoring.api_key
        yield f"{place}: monitoring.app_key", monitoring.app_key
    if environment.drift.webhook is not None:
        yield f"{place}: drift.webhook.secret", environment.drift.webhook.secret
    for identity in load_identities(settings):
        if identity.environment == environment.name:
            yield f"{IDENTITIES}/{identity.name}.yaml: keypair", identity.keypair


def _check_one(settings: Settings, environment: Environment, where: str, text: str, now: datetime) -> SecretRow:
    shown = ""
    try:
        shown = str(parse_reference(settings, environment, where, text))
        found = look_up(settings, environment, where, text)
    except QtradeError as error:
        told = error.brief.removeprefix(f"{where}: ").removeprefix(f"{where} ")
        told += f" ({' '.join(error.details.split())})" if error.details else ""
        return SecretRow(where, shown, SecretState.BROKEN, told, error.resolution, exit_code=error.exit_code)
    if found.expires is None:
        return SecretRow(where, shown, SecretState.GOOD)
    day = found.expires.isoformat(timespec="minutes")
    if found.expires <= now:
        cure = "write a new value there, then `qtrade secrets rotate`"
        return SecretRow(where, shown, SecretState.EXPIRED, f"since {day}", cure, day, NotFound.exit_code)
    if found.expires <= now + timedelta(days=environment.secrets.warn_days):
        return SecretRow(where, shown, SecretState.EXPIRES, f"at {day}", "`qtrade secrets rotate` before then", day)
    return SecretRow(where, shown, SecretState.GOOD, f"until {day}", expires=day)


def _check_names(settings: Settings, environment: Environment, host: Host) -> Iterator[SecretRow]:
    """Compare a host's names with those that its image reads, where there is an image to tell."""
    store = open_store(settings)
    try:
        version = choose_version(store, host, environment)
        image = load_installed(store, host.recipe, version, load_keyring(settings).trust).image
    except QtradeError as error:
        told = f"no image says which secrets it reads: {error.brief}"
        yield SecretRow(f"{manifest_place(settings, host)}: secrets", "", SecretState.UNKNOWN, told, error.resolution)
        return
    declared = {secret.name for inputs in image.inputs.values() for secret in inputs.secrets}
    for name in sorted(set(host.secrets) - declared):
        yield SecretRow(
            f"{manifest_place(settings, host)}: secrets.{name}", "", SecretState.UNUSED,
            f"{image.name} {image.version} reads no such secret; a push refuses it", "correct the name, or remove it",
            exit_code=3,
        )  # fmt: skip


def _find_unused(settings: Settings, environment: Environment, hosts: Sequence[Host]) -> Iterator[SecretRow]:
    used: set[Reference] = set()
    for where, text in (*_of_hosts(settings, hosts), *_of_environment(settings, environment)):
        try:
            used.add(parse_reference(settings, environment, where, text))
        except QtradeError:
            continue  # told already
    yield from _unused_in_files(settings, environment, used)
    yield from _unused_in_vault(settings, environment, used)


def _unused_in_files(settings: Settings, environment: Environment, used: set[Reference]) -> Iterator[SecretRow]:
    named = {(Path(one.place).resolve(), one.key) for one in used if one.kind is SecretKind.VAULT}
    for path in _vault_files(settings, environment):
        where = str(path.relative_to(settings.project) if path.is_relative_to(settings.project) else path)
        try:
            document = ansible_vault.read_vault(settings, environment, where, path)
        except QtradeError as error:
            yield SecretRow(where, "", SecretState.UNKNOWN, f"cannot be read: {error.brief}", error.resolution)
            continue
        for key in sorted(document):
            of = key.removesuffix(ansible_vault.EXPIRES)
            if (path.resolve(), key) not in named and (of == key or of not in document):
                yield SecretRow(
                    f"{where}: {key}", "", SecretState.UNUSED, "nobody refers to it", "remove it, or refer to it"
                )


def _unused_in_vault(settings: Settings, environment: Environment, used: set[Reference]) -> Iterator[SecretRow]:
    access = environment.secrets.kv
    if access is None:
        return
    where = f"{access.mount}/{access.prefix}"
    named = {one.place for one in used if one.kind is SecretKind.KV}
    try:
        paths = kv.reader_for(settings, environment.name, access).paths(where)
    except QtradeError as error:
        yield SecretRow(where, "", SecretState.UNKNOWN, f"cannot be listed: {error.brief}", "give the policy `list`")
        return
    for path in paths:
        if path not in named:
            yield SecretRow(f"{access.mount}/{path}", "", SecretState.UNUSED, "nobody refers to it")


def _vault_files(settings: Settings, environment: Environment) -> Iterator[Path]:
    for place in vault_places(settings, environment):
        if place.is_dir():
            yield from sorted(path for path in place.rglob("*.yml") if path.is_file())
        elif place.is_file():
            yield place


def _find_overlaps(settings: Settings, environment: Environment) -> Iterator[SecretRow]:
    """See that no other environment may read the same: a fence with two owners is none."""
    others = [environment_named(settings, path.stem) for path in settings.find_all(_ENVIRONMENTS, "*.yaml")]
    for one, other in combinations(others, 2):
        if environment.name not in (one.name, other.name):
            continue
        for shared in _shared(settings, one, other):
            yield SecretRow(
                f"{_ENVIRONMENTS}/{environment.name}.yaml: secrets", "", SecretState.BROKEN,
                f"{one.name} and {other.name} both may read {shared}", "give each environment its own",
                exit_code=Refused.exit_code,
            )  # fmt: skip


def _shared(settings: Settings, one: Environment, other: Environment) -> Iterator[str]:
    for mine in vault_places(settings, one):
        for theirs in vault_places(settings, other):
            first, second = sorted((mine.resolve(), theirs.resolve()), key=lambda path: len(path.parts))
            if second == first or first in second.parents:
                yield str(second)
    left, right = one.secrets.kv, other.secrets.kv
    if left and right and (left.address, left.namespace, left.mount) == (right.address, right.namespace, right.mount):
        shorter, longer = sorted((left.prefix, right.prefix), key=len)
        if f"{longer}/".startswith(f"{shorter}/"):
            yield f"{left.mount}/{longer}"
    shorter, longer = sorted((one.secrets.env_prefix, other.secrets.env_prefix), key=len)
    if shorter and longer.startswith(shorter):
        yield f"variables that begin with {longer}"
