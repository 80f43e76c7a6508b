"""References to secrets as manifests write them, and the fence around what those of one environment may lead to."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from qtrade.errors import BadInput, Refused
from qtrade.manifest import Environment
from qtrade.manifest.secrets import KvAccess
from qtrade.settings import Settings

# The lab's vault is made on this machine and opens nothing elsewhere; lab hosts are of development.
LAB_VAULT = "lab-secrets.yml"
_LAB_ENVIRONMENT = "development"
_HOW = "write env:NAME, vault:FILE#KEY, or kv:PATH#FIELD"
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KV = re.compile(
    r"(?P<place>[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*)(?:@(?P<version>[1-9][0-9]{0,8}))?#(?P<key>[^#\s]+)"
)


class SecretKind(StrEnum):
    """Where a secret is: the environment of the process, a file of ansible-vault, a KV engine of HashiCorp Vault."""

    ENV = "env"
    VAULT = "vault"
    KV = "kv"


@dataclass(frozen=True)
class Reference:
    """A reference within its environment's fence.

    `place` is the variable's name, the vault file's path, or the path below the mount; `key` is what it holds there, empty for `env`.
    `version` is None for the newest.
    """

    kind: SecretKind
    place: str
    key: str = ""
    version: int | None = None

    def __str__(self) -> str:
        """Return it as people read it; no part of it is secret."""
        version = f"@{self.version}" if self.version else ""
        return f"{self.kind}:{self.place}{version}" + (f"#{self.key}" if self.key else "")


def parse_reference(settings: Settings, environment: Environment, where: str, text: str) -> Reference:
    """Return the reference. `where` names file and field in errors, which never quote more than the beginning of the text.

    Raises `BadInput` for what is no reference, `Refused` for one that leaves what the environment may read.
    """
    kind, _, rest = text.partition(":")
    match kind:
        case SecretKind.ENV:
            return _parse_env(environment, where, rest)
        case SecretKind.VAULT:
            return _parse_vault(settings, environment, where, rest)
        case SecretKind.KV:
            return _parse_kv(environment, where, rest)
        case _:
            # Somebody may have written the secret itself: whoever wrote it knows what stands there.
            raise BadInput(f"{where} is no reference to a secret", resolution=_HOW)


def vault_places(settings: Settings, environment: Environment) -> tuple[Path, ...]:
    """Return the vault files, and folders of them, that references of the environment may lead to."""
    named = environment.secrets.vault_files or (
        f"secrets/{environment.name}.yml",
        f"secrets/{environment.name}",
    )
    lab = (settings.keys_dir / LAB_VAULT,) if environment.name == _LAB_ENVIRONMENT else ()
    return (*(settings.project / one for one in named), *lab)


def kv_access(environment: Environment, where: str) -> KvAccess:
    """Return how the environment reaches HashiCorp Vault. Raises `BadInput` where its manifest does not say."""
    access = environment.secrets.kv
    if access is None:
        raise BadInput(
            f"{where} is a reference to HashiCorp Vault, but environment {environment.name} names none",
            resolution=f"write secrets.kv into manifests/environments/{environment.name}.yaml, or use vault:FILE#KEY",
        )
    return access


def _parse_env(environment: Environment, where: str, name: str) -> Reference:
    if not _ENV.fullmatch(name):
        raise BadInput(f"{where}: env: is followed by no name of a variable", resolution=_HOW)
    prefix = environment.secrets.env_prefix
    if not name.startswith(prefix):
        raise Refused(
            f"{where}: environment variables of {environment.name} begin with {prefix}, and {name} does not",
            resolution=f"rename the variable, or correct secrets.env_prefix in manifests/environments/{environment.name}.yaml",
        )
    return Reference(SecretKind.ENV, name)


def _parse_vault(settings: Settings, environment: Environment, where: str, rest: str) -> Reference:
    file, _, key = rest.partition("#")
    if not file or not key:
        raise BadInput(f"{where}: vault: is followed by no FILE#KEY", resolution="write vault:FILE#KEY")
    path = settings.project / file
    real = path.resolve()
    allowed = vault_places(settings, environment)
    if not any(real == one.resolve() or one.resolve() in real.parents for one in allowed):
        raise Refused(
            f"{where}: {file} is no vault file of environment {environment.name}",
            details="its own: " + ", ".join(_shown(settings, one) for one in allowed),
            resolution="move the secret into one of them with `ansible-vault edit`, or name the file in secrets.vault_files of "
            f"manifests/environments/{environment.name}.yaml",
        )
    return Reference(SecretKind.VAULT, str(path), key)


def _parse_kv(environment: Environment, where: str, rest: str) -> Reference:
    access = kv_access(environment, where)
    found = _KV.fullmatch(rest)
    if found is None:
        outside = ".." in rest.split("#", maxsplit=1)[0].split("/") or rest.startswith("/")
        error = Refused if outside else BadInput
        raise error(
            f"{where}: "
            + ("the path leaves" if outside else "kv: is followed by no PATH#FIELD below")
            + f" {access.mount}/{access.prefix}, which is what environment {environment.name} may read",
            resolution=f"write kv:PATH#FIELD, with PATH below {access.prefix}",
        )
    version = int(found["version"]) if found["version"] else None
    return Reference(SecretKind.KV, f"{access.prefix}/{found['place']}", found["key"], version)


def _shown(settings: Settings, path: Path) -> str:
    return str(path.relative_to(settings.project)) if path.is_relative_to(settings.project) else str(path)
