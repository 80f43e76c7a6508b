"""Making a provider's driver from what the host manifest says."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

from flash.drivers.api import Api
from flash.drivers.api_auth import BearerToken, ClientCredentials
from flash.drivers.api_errors import Account
from flash.drivers.cherry import CherryDriver
from flash.drivers.latitude import LatitudeDriver
from flash.drivers.phoenixnap import PhoenixnapDriver
from flash.drivers.provider import ProviderDriver
from flash.drivers.rate import TokenBucket
from flash.drivers.teraswitch import TeraswitchDriver, find_refusal
from flash.drivers.waiting import Waiting
from qtrade.manifest import driver as manifest

Access = manifest.LatitudeDriver | manifest.TeraswitchDriver | manifest.CherryDriver | manifest.PhoenixnapDriver


@dataclass(frozen=True)
class Surroundings:
    """What a driver needs besides its host: a folder for what processes share (None: nothing is shared), and its paces."""

    folder: Path | None = None
    waiting: Waiting = field(default_factory=Waiting)
    settle_s: float = 30.0
    requests_per_s: float = 2.0


def connect_provider(access: Access, read_secret: Callable[[str], str], around: Surroundings) -> ProviderDriver:
    """Return the driver. Nothing is asked yet: the secret is read at its first call."""
    server_id, waiting = str(access.server_id), around.waiting
    match access:
        case manifest.LatitudeDriver():
            return LatitudeDriver(_bearer(access, "Latitude.sh", read_secret, around), waiting, server_id)
        case manifest.TeraswitchDriver():
            api = _bearer(access, "TeraSwitch", read_secret, around, find_refusal)
            return TeraswitchDriver(api, waiting, server_id, region_id=access.region_id, tier_id=access.tier_id)
        case manifest.CherryDriver():
            return CherryDriver(_bearer(access, "Cherry Servers", read_secret, around), waiting, server_id)
        case manifest.PhoenixnapDriver():
            account = _account(access, "phoenixNAP", f"driver.client_secret ({access.client_secret})")
            auth = ClientCredentials(
                account, access.auth_url, access.client_id, lambda: read_secret(access.client_secret)
            )
            return PhoenixnapDriver(_api(account, auth, around), waiting, server_id)
        case _:
            assert_never(access)


def _bearer(
    access: manifest.LatitudeDriver | manifest.TeraswitchDriver | manifest.CherryDriver,
    provider: str,
    read_secret: Callable[[str], str],
    around: Surroundings,
    find_refusal: Callable[[Any], str | None] = lambda _: None,
) -> Api:
    account = _account(access, provider, f"driver.token ({access.token})")
    return _api(account, BearerToken(lambda: read_secret(access.token)), around, find_refusal)


def _account(access: Access, provider: str, credential: str) -> Account:
    return Account(provider, access.url, credential, f"driver.server_id {access.server_id}")


def _api(
    account: Account,
    auth: BearerToken | ClientCredentials,
    around: Surroundings,
    find_refusal: Callable[[Any], str | None] = lambda _: None,
) -> Api:
    # Who has the same URL and the same reference has the same account.
    name = hashlib.sha256(f"{account.url} {account.credential}".encode()).hexdigest()[:16]
    path = around.folder / f"{name}.json" if around.folder else None
    return Api(
        account,
        auth,
        bucket=TokenBucket(path, per_s=around.requests_per_s, sleep=around.waiting.sleep),
        waiting=around.waiting,
        find_refusal=find_refusal,
        settle_s=around.settle_s,
    )
