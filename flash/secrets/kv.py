"""Secrets in a KV engine (version 2) of HashiCorp Vault, by its client hvac, which is an extra.

API: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flash.secrets import kv_login
from flash.secrets.references import Reference
from qtrade.errors import BadInput, ConflictError, NotFound, QtradeError, ToolError
from qtrade.manifest import KvAccess
from qtrade.redaction import redact, register_secret
from qtrade.settings import Settings

_TIMEOUT_S = 10
# A token that ends within this is renewed before it is used.
_MARGIN_S = 10.0
# Key of custom_metadata whose value is the last day (YYYY-MM-DD, UTC) on which the secret is good.
_EXPIRES = "expires"
_MOST_PATHS = 2000
# Shorter fields beside the one that was asked for may be a port or a name: hiding those would spoil every report.
_HIDDEN_BESIDE = 12


@dataclass(frozen=True)
class Read:
    """A field of a secret: its value, its version, and when it ends."""

    value: str
    version: int
    expires: datetime | None


class KvReader:
    """One login to Vault, shared by all threads of this process: used until its token ends, renewed where it can be, else made anew."""

    def __init__(
        self, settings: Settings, environment: str, access: KvAccess, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._access = access
        self._clock = clock
        self._lock = threading.RLock()
        self._client: Any = None
        self._lease = kv_login.Lease("", 0.0, is_renewable=False)
        self._lease_at = 0.0

    def read(self, where: str, reference: Reference) -> Read:
        """Return a field. Raises `NotFound` for no such path, version or field, `ToolError` where Vault says no or nothing."""
        data = self._read(where, reference)
        fields, about = data["data"], data["metadata"]
        value = fields.get(reference.key)
        for other in fields.values():
            if isinstance(other, str) and len(other) >= _HIDDEN_BESIDE:
                register_secret(other)
        if value is None or value == "":
            raise NotFound(
                f"{where}: {self._shown(reference)} has no field {reference.key}",
                details=f"its fields: {', '.join(sorted(fields)) or 'none'}",
                resolution="correct the field, or add it to the secret",
            )
        if not isinstance(value, str):
            raise BadInput(
                f"{where}: field {reference.key} of {self._shown(reference)} is no text", resolution="store a string"
            )
        return Read(value, int(about["version"]), _find_end(where, about))

    def write(self, where: str, reference: Reference, value: str) -> None:
        """Write a new version in which one field has changed. Raises `ConflictError` where somebody wrote in between, and as `read`."""
        data = self._read(where, reference)
        with self._asking(where, reference) as client:
            client.secrets.kv.v2.create_or_update_secret(
                reference.place,
                {**data["data"], reference.key: value},
                cas=int(data["metadata"]["version"]),
                mount_point=self._access.mount,
            )

    def paths(self, where: str) -> tuple[str, ...]:
        """Return all paths below the prefix. Raises `ToolError`, also where the token may not list them."""
        found: list[str] = []
        pending = [self._access.prefix]
        while pending and len(found) < _MOST_PATHS:
            folder = pending.pop()
            for name in self._list(where, folder):
                (pending if name.endswith("/") else found).append(f"{folder}/{name.rstrip('/')}")
        return tuple(sorted(found))

    def _list(self, where: str, folder: str) -> list[str]:
        from hvac.exceptions import InvalidPath  # noqa: PLC0415 - an extra

        with self._asking(where, None) as client:
            try:
                answer = client.secrets.kv.v2.list_secrets(folder, mount_point=self._access.mount)
            except InvalidPath:  # an empty folder is none
                return []
        return list(answer["data"]["keys"])

    def _read(self, where: str, reference: Reference) -> dict[str, Any]:
        with self._asking(where, reference) as client:
            answer = client.secrets.kv.v2.read_secret_version(
                reference.place,
                version=reference.version,
                mount_point=self._access.mount,
                raise_on_deleted_version=True,
            )
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get("data"), dict) or "metadata" not in data:
            raise BadInput(
                f"{where}: {self._access.mount} of {self._access.address} is no KV engine of version 2",
                resolution="correct secrets.kv.mount in the environment's manifest, or upgrade the engine: "
                f"`vault kv enable-versioning {self._access.mount}`",
            )
        return data

    @contextmanager
    def _asking(self, where: str, reference: Reference | None) -> Iterator[Any]:
        """Give a client with a token that holds, and turn what Vault says into our errors."""
        with self._lock:
            client = self._connect(where)
            try:
                yield client
            except _troubles() as error:
                raise self._explain(where, reference, error) from None

    def _connect(self, where: str) -> Any:
        if self._client is None:
            self._client = _make_client(where, self._access)
        left = self._lease_at + self._lease.lasts_s - self._clock()
        if self._lease.token and (self._lease.lasts_s <= 0 or left > _MARGIN_S):
            return self._client
        try:
            if self._lease.token and self._lease.is_renewable and left > 0:
                lease = kv_login.renew(self._client, self._lease)
                if lease is not None and lease.lasts_s > _MARGIN_S:
                    return self._take(lease)
            return self._take(kv_login.log_in(self._settings, self._environment, self._access, self._client, where))
        except _troubles() as error:
            raise self._explain(where, None, error, is_login=True) from None

    def _take(self, lease: kv_login.Lease) -> Any:
        register_secret(lease.token)
        self._client.token = lease.token
        self._lease, self._lease_at = lease, self._clock()
        return self._client

    def _explain(
        self, where: str, reference: Reference | None, error: Exception, *, is_login: bool = False
    ) -> QtradeError:
        import requests  # noqa: PLC0415 - comes with hvac
        from hvac import exceptions  # noqa: PLC0415 - an extra

        address = self._access.address
        said = redact("; ".join(getattr(error, "errors", None) or ()))
        if isinstance(error, requests.RequestException):
            return ToolError(
                f"{where}: Vault at {address} does not answer ({type(error).__name__})",
                resolution="check secrets.kv.address and ca_file in the environment's manifest, and the network",
            )
        if isinstance(error, (exceptions.VaultDown, exceptions.VaultNotInitialized)):
            return ToolError(
                f"{where}: Vault at {address} is sealed or not ready", details=said,
                resolution="have it unsealed (`vault operator unseal`), then run the same command again",
            )  # fmt: skip
        if is_login and isinstance(
            error, (exceptions.InvalidRequest, exceptions.Forbidden, exceptions.Unauthorized, exceptions.InvalidPath)
        ):
            return kv_login.refused(self._settings, self._environment, self._access, where, said)
        return self._explain_answer(where, reference, error, said)

    def _explain_answer(self, where: str, reference: Reference | None, error: Exception, said: str) -> QtradeError:
        from hvac import exceptions  # noqa: PLC0415 - an extra

        shown = self._shown(reference) if reference else f"{self._access.mount}/{self._access.prefix}"
        match error:
            case exceptions.Forbidden():
                self._lease = kv_login.Lease("", 0.0, is_renewable=False)
                return ToolError(
                    f"{where}: Vault does not let us at {shown} (permission denied)", details=said,
                    resolution=f"give the policy of environment {self._environment} `read` on "
                    f"{self._access.mount}/data/{self._access.prefix}/*, or correct the path; "
                    "a token that has ended is refused in the same way",
                )  # fmt: skip
            case exceptions.InvalidPath():
                return NotFound(
                    f"{where}: Vault has nothing at {shown}", details=said or _deleted(error),
                    resolution="correct the path, or secrets.kv.mount and prefix in the environment's manifest",
                )  # fmt: skip
            case exceptions.InvalidRequest() if "check-and-set" in said:
                return ConflictError(
                    f"{where}: {shown} was changed by somebody else meanwhile",
                    resolution="look at its versions, then run the same command again",
                )
            case KeyError() | TypeError() | ValueError():
                said = "the answer is none of Vault's API"
            case _:
                pass
        return ToolError(
            f"{where}: Vault could not answer for {shown} ({type(error).__name__})", details=said,
            resolution="look at Vault's log, and try again",
        )  # fmt: skip

    def _shown(self, reference: Reference) -> str:
        version = f", version {reference.version}" if reference.version else ""
        return f"{self._access.mount}/{reference.place}{version}"


def _troubles() -> tuple[type[Exception], ...]:
    """Return what hvac raises, and what comes of an answer that is none of Vault's."""
    import requests  # noqa: PLC0415 - comes with hvac
    from hvac.exceptions import VaultError  # noqa: PLC0415 - an extra

    return (VaultError, requests.RequestException, KeyError, TypeError, ValueError)


_readers: dict[tuple[str, KvAccess], KvReader] = {}
_making = threading.Lock()


def reader_for(settings: Settings, environment: str, access: KvAccess) -> KvReader:
    """Return this process's login to the environment's Vault; nothing is asked of it yet."""
    with _making:
        key = (f"{settings.keys_dir} {environment}", access)
        if key not in _readers:
            _readers[key] = KvReader(settings, environment, access)
        return _readers[key]


def forget_readers() -> None:
    """Forget all logins of this process."""
    with _making:
        _readers.clear()


def _make_client(where: str, access: KvAccess) -> Any:
    try:
        import hvac  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        if error.name != "hvac":
            raise
        raise ToolError(
            f"{where}: a reference to HashiCorp Vault needs hvac", resolution="install it: pip install 'qtrade[vault]'"
        ) from error
    # A redirect would take the token along to another address.
    return hvac.Client(
        url=access.address,
        token="",
        verify=str(access.ca_file) if access.ca_file else True,
        timeout=_TIMEOUT_S,
        namespace=access.namespace,
        allow_redirects=False,
    )


def _find_end(where: str, about: dict[str, Any]) -> datetime | None:
    """Return when a version ends: Vault deletes it then, or its owner says so in custom_metadata."""
    deletes, says = about.get("deletion_time") or "", (about.get("custom_metadata") or {}).get(_EXPIRES)
    try:
        ends = [datetime.fromisoformat(deletes.split(".")[0].rstrip("Z")).replace(tzinfo=UTC)] if deletes else []
        if says:
            ends.append(datetime.fromisoformat(says).replace(tzinfo=UTC) + timedelta(days=1, seconds=-1))
    except ValueError:
        raise BadInput(
            f"{where}: custom_metadata.{_EXPIRES} of the secret is no day", resolution="write it as YYYY-MM-DD"
        ) from None
    return min(ends, default=None)


def _deleted(error: Any) -> str:
    """Return what Vault says of a version that is deleted or destroyed: it has metadata, and no data."""
    about = ((getattr(error, "json", None) or {}).get("data") or {}).get("metadata") or {}
    if about.get("destroyed"):
        return f"version {about.get('version')} was destroyed"
    return (
        f"version {about.get('version')} was deleted at {about['deletion_time']}" if about.get("deletion_time") else ""
    )
