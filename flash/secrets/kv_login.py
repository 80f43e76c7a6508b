"""How this machine logs in to HashiCorp Vault. Credentials come from files and from GitHub's own variables, never from arguments.

API: https://developer.hashicorp.com/vault/api-docs/auth/approle, …/auth/jwt, …/auth/token. GitHub's side:
https://docs.github.com/en/actions/reference/security/oidc.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from qtrade.errors import BadInput, NotFound, QtradeError, Refused, ToolError
from qtrade.manifest import KvAccess
from qtrade.manifest.secrets import AppRole, GithubOidc, Token
from qtrade.redaction import redact, register_secret
from qtrade.settings import Settings

_ROLE_ID, _SECRET_ID, _TOKEN = "QTRADE_VAULT_ROLE_ID_FILE", "QTRADE_VAULT_SECRET_ID_FILE", "QTRADE_VAULT_TOKEN_FILE"
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Lease:
    """A token, how long it lasts from now (0: for ever), and whether it can be renewed."""

    token: str
    lasts_s: float
    is_renewable: bool


def log_in(settings: Settings, environment: str, access: KvAccess, client: Any, where: str) -> Lease:
    """Return a token. Raises `NotFound` without credentials, `Refused` for a file that others may read, hvac's errors."""
    match access.auth:
        case AppRole() as auth:
            role_id = _read_file(_credential(settings, environment, _ROLE_ID), where, _ROLE_ID)
            secret_id = _read_file(_credential(settings, environment, _SECRET_ID), where, _SECRET_ID)
            return _lease(client.auth.approle.login(role_id, secret_id, use_token=False, mount_point=auth.mount))
        case GithubOidc() as auth:
            jwt = _github_token(auth.audience or access.address, where)
            return _lease(client.auth.jwt.jwt_login(auth.role, jwt, use_token=False, path=auth.mount))
        case Token():
            token = _read_file(_credential(settings, environment, _TOKEN), where, _TOKEN)
            client.token = token
            about = client.auth.token.lookup_self()["data"]
            return Lease(token, float(about.get("ttl") or 0), bool(about.get("renewable")))


def renew(client: Any, lease: Lease) -> Lease | None:
    """Return the same token with a longer life; None where Vault does not give it one. Raises what says that Vault is away."""
    from hvac.exceptions import Forbidden, InvalidRequest  # noqa: PLC0415 - an extra

    try:
        fresh = _lease(client.auth.token.renew_self())
    except (Forbidden, InvalidRequest):
        return None
    return Lease(lease.token, fresh.lasts_s, fresh.is_renewable)


def refused(settings: Settings, environment: str, access: KvAccess, where: str, said: str) -> QtradeError:
    """Return the error for a login that Vault does not take."""
    how, cure = _login_of(settings, environment, access)
    return BadInput(
        f"{where}: Vault at {access.address} does not take our login ({how})", details=said, resolution=cure
    )


def _login_of(settings: Settings, environment: str, access: KvAccess) -> tuple[str, str]:
    """Return how we log in, and what to look at when it fails."""
    match access.auth:
        case AppRole() as auth:
            files = ", ".join(str(_credential(settings, environment, name)) for name in (_ROLE_ID, _SECRET_ID))
            return f"AppRole at auth/{auth.mount}", f"check {files}: a secret id ends, too"
        case GithubOidc() as auth:
            return (
                f"role {auth.role} at auth/{auth.mount}",
                "check the role's bound_claims and bound_audiences against the workflow's repository, ref and audience",
            )
        case Token():
            return "token", f"write a token that lives into {_credential(settings, environment, _TOKEN)}"


def _lease(answer: Any) -> Lease:
    auth = answer["auth"]
    return Lease(auth["client_token"], float(auth.get("lease_duration") or 0), bool(auth.get("renewable")))


def _credential(settings: Settings, environment: str, variable: str) -> Path:
    """Return the file of a credential: named by a variable, else `vault-role-id-<environment>` and the like in the keys folder."""
    named = os.environ.get(variable)
    kind = variable.removeprefix("QTRADE_").removesuffix("_FILE").lower().replace("_", "-")
    return Path(named).absolute() if named else settings.keys_dir / f"{kind}-{environment}"


def _read_file(path: Path, where: str, variable: str) -> str:
    try:
        mode, value = path.stat().st_mode, path.read_text().strip()
    except OSError as error:
        raise NotFound(
            f"{where}: {path} cannot be read: {error.strerror}",
            resolution=f"write the credential for Vault there, mode 600, or name another file with {variable}",
        ) from None
    register_secret(value)
    if stat.S_IMODE(mode) & 0o077:
        raise Refused(
            f"{where}: others may read {path} (mode {stat.S_IMODE(mode):04o})", resolution=f"chmod 600 {path}"
        )
    if not value:
        raise NotFound(f"{where}: {path} is empty", resolution="write the credential for Vault there")
    return value


def _github_token(audience: str, where: str) -> str:
    url, bearer = (os.environ.get(f"ACTIONS_ID_TOKEN_REQUEST_{name}") for name in ("URL", "TOKEN"))
    if not url or not bearer:
        raise NotFound(
            f"{where}: GitHub gives this job no identity",
            details="ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN are not set",
            resolution="run it in a workflow with `permissions: {id-token: write}`, or use another secrets.kv.auth",
        )
    register_secret(bearer)
    try:
        answer = httpx.get(
            httpx.URL(url).copy_merge_params({"audience": audience}),
            headers={"Authorization": f"Bearer {bearer}", "Accept": "application/json"},
            timeout=_TIMEOUT_S,
        )
        answer.raise_for_status()
        token = answer.json()["value"]
        register_secret(token)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise ToolError(
            f"{where}: GitHub gave no identity token",
            details=redact(f"{type(error).__name__}: {error}"),
            resolution="run the job again; the audience may be refused by the organisation",
        ) from None
    return str(token)
