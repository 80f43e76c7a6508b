"""Resolve references to secrets. Values go to the agent on SSH stdin, and to the redaction filter first."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

from flash.inventory import load_environment, manifest_place
from flash.secrets import ansible_vault, kv
from flash.secrets.references import Reference, SecretKind, kv_access, parse_reference
from qtrade.errors import BadInput, NotFound
from qtrade.manifest import Environment, Host, Image
from qtrade.redaction import register_secret
from qtrade.settings import Settings

# Shorter values beside the one that was asked for may be a port or a name: hiding those would spoil every report.
_HIDDEN_BESIDE = 12


@dataclass(frozen=True)
class Found:
    """What is behind a reference: the value, and when it ends (None: nobody says that it does)."""

    value: bytes
    expires: datetime | None = None


def resolve_secrets(settings: Settings, host: Host, image: Image, *, only: str = "") -> dict[str, bytes]:
    """Return the value of every secret that the host's manifest refers to, or of `only` one of them.

    Raises `BadInput`, `NotFound`, `Refused`, `ToolError`.
    """
    declared = {secret.name for inputs in image.inputs.values() for secret in inputs.secrets}
    unknown = sorted(set(host.secrets) - declared)
    place = manifest_place(settings, host)
    if unknown:
        raise BadInput(
            f"{place}: secrets.{unknown[0]} is no secret that {image.name} {image.version} reads",
            details=f"known: {', '.join(sorted(declared)) or 'none'}",
            resolution="correct the name, or remove it",
        )
    if not host.secrets:
        return {}
    environment = load_environment(settings, host)
    return {
        name: resolve(settings, environment, f"{place}: secrets.{name}", reference)
        for name, reference in host.secrets.items()
        if only in ("", name)
    }


def resolve(settings: Settings, environment: Environment, where: str, reference: str) -> bytes:
    """Return the value behind one reference; `where` names it in errors. Raises as `look_up`."""
    return look_up(settings, environment, where, reference).value


def secret_reader(settings: Settings, host: Host, field: str) -> Callable[[str], str]:
    """Return what resolves references in a field of the host's manifest, for those who ask later or never."""

    def read(reference: str) -> str:
        environment = load_environment(settings, host)
        return resolve(settings, environment, f"{manifest_place(settings, host)}: {field}", reference).decode()

    return read


def look_up(settings: Settings, environment: Environment, where: str, text: str) -> Found:
    """Return what is behind a reference: `env:NAME`, `vault:FILE#KEY` of ansible-vault, `kv:PATH#FIELD` of HashiCorp Vault.

    Raises `BadInput` for what is no reference, `Refused` for one of another environment, `NotFound` for one that leads to nothing,
    `ToolError` where Vault does not answer.
    """
    reference = parse_reference(settings, environment, where, text)
    value, expires = _read(settings, environment, where, reference)
    register_secret(value)
    return Found(value.encode(), expires)


def _read(
    settings: Settings, environment: Environment, where: str, reference: Reference
) -> tuple[str, datetime | None]:
    match reference.kind:
        case SecretKind.ENV:
            return _read_env(where, reference), None
        case SecretKind.VAULT:
            return _read_vault(settings, environment, where, reference)
        case SecretKind.KV:
            read = kv.reader_for(settings, environment.name, kv_access(environment, where)).read(where, reference)
            return read.value, read.expires


def _read_env(where: str, reference: Reference) -> str:
    value = os.environ.get(reference.place)
    if not value:
        raise NotFound(
            f"{where}: the environment variable {reference.place} is not set", resolution=f"set {reference.place}"
        )
    return value


def _read_vault(
    settings: Settings, environment: Environment, where: str, reference: Reference
) -> tuple[str, datetime | None]:
    path, key = Path(reference.place), reference.key
    document = ansible_vault.read_vault(settings, environment, where, path)
    # What stands in the same file is no less secret for standing beside it.
    for name, value in document.items():
        if not name.endswith(ansible_vault.EXPIRES) and len(value) >= _HIDDEN_BESIDE:
            register_secret(value)
    if not document.get(key):
        raise NotFound(
            f"{where}: {path} has {'an empty' if key in document else 'no'} key {key}",
            resolution=f"add it with `ansible-vault edit {path}`",
        )
    day = document.get(f"{key}{ansible_vault.EXPIRES}")
    try:
        expires = datetime.combine(date.fromisoformat(day), time.max, UTC) if day else None
    except ValueError:
        raise BadInput(
            f"{where}: {key}{ansible_vault.EXPIRES} in {path} is no day", resolution="write it as YYYY-MM-DD"
        ) from None
    return document[key], expires
