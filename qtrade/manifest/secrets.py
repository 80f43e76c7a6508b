"""Where an environment's secrets are: references that its hosts' manifests hold, and the places that these may lead to."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import Model

# A reference to a secret; never a secret.
# What refers to a secret; whatever stands in its place may be the secret itself, and is shown by no error.
REFERENCE = r"^(env|vault|kv):.+$"
SecretRef = Annotated[str, Field(pattern=REFERENCE)]
_PATH = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"
VaultPath = Annotated[str, Field(pattern=_PATH)]


class AppRole(Model):
    """Log in by AppRole; role id and secret id are the controller's own (docs/runbooks/secrets.md)."""

    method: Literal["approle"]
    mount: VaultPath = "approle"


class Token(Model):
    """Use a token that the controller has in a file."""

    method: Literal["token"]


class GithubOidc(Model):
    """Log in with the identity that GitHub gives the job of a workflow, by Vault's JWT method."""

    method: Literal["github"]
    mount: VaultPath = "jwt"
    role: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    audience: str = Field(default="", description="of the identity token; empty for the address of Vault")


class KvAccess(Model):
    """A KV engine, version 2, of HashiCorp Vault: `kv:PATH#FIELD` is FIELD at `prefix`/PATH of `mount`."""

    address: str = Field(pattern=r"^https?://[^\s@/]+$")
    namespace: VaultPath | None = None
    mount: VaultPath = "secret"
    prefix: VaultPath
    auth: AppRole | Token | GithubOidc = Field(discriminator="method")
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _tokens_are_not_sent_in_the_clear(self) -> "KvAccess":
        host = self.address.partition("://")[2].rpartition(":")[0] or self.address.partition("://")[2]
        if self.address.startswith("http://") and host not in ("127.0.0.1", "localhost", "[::1]"):
            raise ValueError("a token goes over https only, but for Vault on this machine")
        return self


class SecretPlaces(Model):
    """What references of an environment and of its hosts may lead to, and nothing else.

    `vault_files` are files of ansible-vault, or folders of them, in the project; `secrets/<environment>.yml` and `secrets/<environment>`
    where none are named. Names of environment variables begin with `env_prefix`. Without `kv` there is no HashiCorp Vault.
    """

    vault_files: tuple[VaultPath, ...] = ()
    env_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9_]*$")
    kv: KvAccess | None = None
    warn_days: int = Field(
        default=14, ge=0, le=366, description="`qtrade secrets check` tells of what expires within these"
    )
