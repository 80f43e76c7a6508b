"""TeraSwitch. Shapes are those of its API document (client/swagger.json of TeraSwitch/terraform-provider-teraswitch, 33640d6).

The document leaves the values of `status` open; its Terraform provider waits for "Active". There is no reboot and no rescue system.
Not verified live: whether a reinstall, by iPXE too, erases all disks; it is treated as if it does.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import Field
from pydantic.alias_generators import to_camel

from flash.drivers.abilities import PowerState
from flash.drivers.api import Answer, Api, Json
from flash.drivers.provider import REINSTALL_S, Judge, ProviderDriver
from flash.drivers.stock import is_same_key, newest_debian
from flash.drivers.waiting import Waiting, once

KEY_NAME = "qtrade"
_ACTIVE = "Active"
_TASK = ", task "
_Result = TypeVar("_Result")


class _Envelope(Answer, Generic[_Result]):
    result: _Result


class _Event(Answer):
    body: str | None = None


class _Service(Answer):
    status: str | None = None
    power_state: str | None = None
    current_task: str | None = None
    display_name: str | None = None
    provisioning_events: tuple[_Event, ...] | None = None

    model_config = Answer.model_config | {"alias_generator": to_camel}

    def progress(self) -> str:
        """Return all that changes when the service does something, as one text."""
        task = f"{_TASK}{self.current_task}" if self.current_task else ""
        return f"{self.status}{task}, {len(self.provisioning_events or ())} events"


class _Key(Answer):
    id: int
    key: str | None = None


class _Image(Answer):
    id: str
    name: str | None = Field(default=None, alias="operatingSystemName")
    version: str | None = Field(default=None, alias="operatingSystemVersion")


class TeraswitchDriver(ProviderDriver):
    """Power, iPXE (a reinstall) and reinstall of one metal service. A reinstall repeats region and tier, as the API requires."""

    def __init__(self, api: Api, waiting: Waiting, server_id: str, *, region_id: str, tier_id: str) -> None:
        super().__init__(api, waiting, server_id)
        self._same = {"regionId": region_id, "tierId": tier_id}

    def power_state(self) -> PowerState:
        """Ask for the state now."""
        return _POWER.get(self._read().power_state or "", PowerState.UNKNOWN)

    def boot_ipxe(self, url: str) -> None:
        """Reinstall by the iPXE script at `url`; this is taken to erase all disks."""
        self._see_begin(self._progress, self._reinstall("boot iPXE", {"ipxeUrl": url}), "boot iPXE")

    def reinstall(self, *, hostname: str, public_key: str) -> str:
        """Install the newest Debian there is, erasing all disks; the key is root's."""
        fields = {"imageId": self._stock_image(), "sshKeyIds": [self._key(public_key).id], "displayName": hostname}
        begun = self._reinstall("reinstall", fields)
        self._see_end(self._progress, _is_active, "reinstall", begun=begun, within_s=REINSTALL_S)
        return "root"

    def _request_power(self, wanted: PowerState, has_begun: Callable[[], bool]) -> None:
        command = "PowerOn" if wanted is PowerState.ON else "PowerOff"
        path = self._path("PowerCommand")
        self._api.act(f"switch {wanted.lower()}", path, has_begun=has_begun, query={"command": command})

    def _reinstall(self, what: str, fields: Json) -> Judge:
        before = self._read()
        # Without the name the service might get another one: the body is that of a new service.
        name = {"displayName": before.display_name} if before.display_name else {}
        body = {**self._same, **name, **fields}
        begun = once(lambda progress: progress != before.progress())
        self._api.act(what, self._path("Reinstall"), body, has_begun=lambda: begun(self._progress()))
        return begun

    def _stock_image(self) -> str:
        answer = self._api.get("list images", "/v2/Image", _Envelope[tuple[_Image, ...]])
        names = {image.id: f"{image.name} {image.version}" for image in answer.result}
        return newest_debian(self._api.account.provider, names)

    def _key(self, public_key: str) -> _Key:
        known = self._find_key(public_key)
        if known is None:
            body = {"displayName": KEY_NAME, "key": public_key}
            known = self._api.create(
                "add our SSH key", "/v2/SshKey", body, _Envelope[_Key], find=lambda: self._find_key(public_key)
            )
        return known.result

    def _find_key(self, public_key: str) -> _Envelope[_Key] | None:
        keys = self._api.get("list SSH keys", "/v2/SshKey", _Envelope[tuple[_Key, ...]]).result
        found = next((key for key in keys if key.key and is_same_key(key.key, public_key)), None)
        return None if found is None else _Envelope[_Key](result=found)

    def _progress(self) -> str:
        return self._read().progress()

    def _read(self) -> _Service:
        return self._api.get("read the service", self._path(), _Envelope[_Service]).result

    def _path(self, *verbs: str) -> str:
        return "/".join(("/v2/Metal", self._server_id, *verbs))


def find_refusal(document: Any) -> str | None:
    """Return the API's words where it says `success: false`, which it may do with status 200."""
    if isinstance(document, dict) and document.get("success") is False:
        return str(document.get("message") or "no reason given")
    return None


_POWER = {"On": PowerState.ON, "Off": PowerState.OFF}


def _is_active(progress: str) -> bool:
    return progress.startswith(f"{_ACTIVE}, ") and _TASK not in progress
