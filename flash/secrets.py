"""Resolve references to secrets. Values go to the agent on SSH stdin, and to the redaction filter first."""

import os
from functools import cache
from pathlib import Path

import yaml

from qtrade import process
from qtrade.errors import BadInput, NotFound
from qtrade.manifest import Host, Image
from qtrade.redaction import register_secret
from qtrade.settings import Settings

VAULT_PASSWORD = "vault-password"  # noqa: S105 - the name of a file


def resolve_secrets(settings: Settings, host: Host, image: Image) -> dict[str, bytes]:
    """Return the value of every secret that the host's manifest refers to. Raises `BadInput`, `NotFound`.

    A reference is `env:NAME`, or `vault:FILE#KEY` for a file of ansible-vault, whose password file ANSIBLE_VAULT_PASSWORD_FILE
    names (else `vault-password` of the keys folder serves).
    """
    declared = {secret.name for inputs in image.inputs.values() for secret in inputs.secrets}
    unknown = sorted(set(host.secrets) - declared)
    if unknown:
        raise BadInput(
            f"host {host.name}: secrets.{unknown[0]} is no secret that {image.name} {image.version} reads",
            details=f"known: {', '.join(sorted(declared)) or 'none'}",
            resolution="correct the name, or remove it",
        )
    return {name: resolve(settings, f"host {host.name}: secrets.{name}", ref) for name, ref in host.secrets.items()}


def resolve(settings: Settings, where: str, reference: str) -> bytes:
    """Return the value behind one reference; `where` names it in errors."""
    kind, _, rest = reference.partition(":")
    if kind == "env":
        value = os.environ.get(rest)
        if not value:
            raise NotFound(f"{where}: the environment variable {rest} is not set", resolution=f"set {rest}")
    elif kind == "vault":
        value = _from_vault(settings, where, rest)
    else:
        raise BadInput(
            f"{where} is {reference!r:.30}, no reference to a secret", resolution="write env:NAME or vault:FILE#KEY"
        )
    register_secret(value)
    return value.encode()


def _from_vault(settings: Settings, where: str, rest: str) -> str:
    file, _, key = rest.partition("#")
    path = settings.project / file
    if not path.is_file() or not key:
        raise NotFound(f"{where}: {path} is no vault file with a key", resolution="write vault:FILE#KEY")
    password = Path(os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE") or settings.keys_dir / VAULT_PASSWORD)
    if not password.is_file():
        raise NotFound(f"{where}: no vault password", resolution="set ANSIBLE_VAULT_PASSWORD_FILE")
    document = _decrypt(path, password)
    if key not in document:
        raise NotFound(f"{where}: {path} has no key {key}", resolution="add it with `ansible-vault edit`")
    return document[key]


@cache
def _decrypt(path: Path, password: Path) -> dict[str, str]:
    done = process.run([process.beside_python("ansible-vault"), "view", "--vault-password-file", password, path])
    try:
        document = yaml.safe_load(done.stdout)
    except yaml.YAMLError:
        # The parser's own words would quote the secrets.
        raise BadInput(f"{path} is no YAML once decrypted", resolution="correct it with `ansible-vault edit`") from None
    if not isinstance(document, dict):
        raise BadInput(f"{path} holds no mapping", resolution="write `name: value` lines with `ansible-vault edit`")
    return {str(name): str(value) for name, value in document.items()}
