"""Cherry Servers. Shapes are those of its Go client (cherrygo v4: servers.go, images.go, sshkeys.go) and of facts: flashing, 5.

Its clients differ: the Go client says `reinstall` and `power_on`, the Python one `rebuild` and `power-on`. The Go client is the
one that knows iPXE, so its words are used; the image's name for iPXE is that of cherryctl. Not verified live.
"""

import base64
import secrets
import string
from collections.abc import Callable

from pydantic import RootModel

from flash.drivers.abilities import PowerState, RescueLogin
from flash.drivers.api import Answer, Json
from flash.drivers.provider import REINSTALL_S, RESCUE_S, Judge, ProviderDriver
from flash.drivers.stock import is_same_key, newest_debian
from flash.drivers.waiting import once
from qtrade.redaction import register_secret

KEY_LABEL = "qtrade"
IPXE_IMAGE = "custom_ipxe_install"
RESCUE = "rescue mode"
_RESTING = frozenset({"deployed", "allocated", "failed deployment"})
_FAILED = frozenset({"failed deployment"})
_PASSWORD_LENGTH = 24


class _Plan(Answer):
    slug: str


class _Server(Answer):
    status: str = ""
    hostname: str = ""
    username: str = ""
    plan: _Plan


class _Power(Answer):
    power: str = ""


class _Key(Answer):
    id: int
    key: str = ""


class _Image(Answer):
    name: str
    slug: str


class CherryDriver(ProviderDriver):
    """Power, rescue, iPXE (a reinstall) and reinstall of one server."""

    def power_state(self) -> PowerState:
        """Ask for the state now."""
        power = self._api.get("read the power state", self._path(), _Power, query={"fields": "power"})
        return _POWER.get(power.power, PowerState.UNKNOWN)

    def boot_ipxe(self, url: str) -> None:
        """Reinstall by a script that chains to `url`: this erases all disks. Later boots are from the disk again."""
        # The API takes a script, which must start with #!ipxe, in base64. iPXE may have its address already, hence `||`.
        script = base64.b64encode(f"#!ipxe\ndhcp ||\nchain {url}\n".encode()).decode()
        fields = {"image": IPXE_IMAGE, "ipxe": script, "password": make_password()}
        self._see_begin(self._status, self._act("boot iPXE", "reinstall", fields), "boot iPXE")

    def reinstall(self, *, hostname: str, public_key: str) -> str:
        """Install the newest Debian there is, erasing all disks; return the user that Cherry names."""
        path = f"/plans/{self._read().plan.slug}/images"
        images = self._api.get("list images", path, RootModel[tuple[_Image, ...]]).root
        fields = {
            "image": newest_debian(self._api.account.provider, {image.slug: image.name for image in images}),
            "hostname": hostname,
            "password": make_password(),
            "ssh_keys": [str(self._key(public_key).id)],
        }
        begun = self._act("reinstall", "reinstall", fields)
        self._see_end(
            self._status,
            lambda status: status == "deployed",
            "reinstall",
            begun=begun,
            within_s=REINSTALL_S,
            failed=_FAILED,
        )
        return self._read().username or "root"

    def enter_rescue(self, public_key: str) -> RescueLogin:
        """Boot the rescue system with a password of ours, made anew; the API takes no key."""
        del public_key
        # A status from an earlier rescue, perhaps an old one, must not pass for this one: its password is not ours.
        self.leave_rescue()
        password = make_password()
        begun = self._act("enter rescue mode", "enter-rescue-mode", {"password": password})
        self._see_end(
            self._status, lambda status: status == RESCUE, "enter rescue mode", begun=begun, within_s=RESCUE_S
        )
        return RescueLogin(user="root", password=password)

    def is_in_rescue(self) -> bool:
        """Ask for the mode now."""
        return self._status() == RESCUE

    def leave_rescue(self) -> None:
        """Leave rescue mode, which starts the server from its disk."""
        if self._status() != RESCUE:
            return
        begun = self._act("leave rescue mode", "exit-rescue-mode")
        self._see_end(
            self._status, lambda status: status in _RESTING, "leave rescue mode", begun=begun, within_s=RESCUE_S
        )

    def _request_power(self, wanted: PowerState, has_begun: Callable[[], bool]) -> None:
        action = "power_on" if wanted is PowerState.ON else "power_off"
        self._api.act(f"switch {wanted.lower()}", self._path("actions"), {"type": action}, has_begun=has_begun)

    def _act(self, what: str, action: str, fields: Json | None = None) -> Judge:
        """Have the server do something; return what tells that the status is no longer the one from before."""
        before = self._status()
        begun = once(lambda status: status != before)
        body = {"type": action, **(fields or {})}
        self._api.act(what, self._path("actions"), body, has_begun=lambda: begun(self._status()))
        return begun

    def _key(self, public_key: str) -> _Key:
        known = self._find_key(public_key)
        if known is not None:
            return known
        body = {"label": KEY_LABEL, "key": public_key}
        return self._api.create("add our SSH key", "/ssh-keys", body, _Key, find=lambda: self._find_key(public_key))

    def _find_key(self, public_key: str) -> _Key | None:
        keys = self._api.get("list SSH keys", "/ssh-keys", RootModel[tuple[_Key, ...]]).root
        return next((key for key in keys if is_same_key(key.key, public_key)), None)

    def _status(self) -> str:
        return self._read().status

    def _read(self) -> _Server:
        return self._api.get("read the server", self._path(), _Server)

    def _path(self, *verbs: str) -> str:
        return "/".join(("/servers", self._server_id, *verbs))


_POWER = {"on": PowerState.ON, "off": PowerState.OFF}


def make_password() -> str:
    """Return a new password that is hidden from all output, with a small letter, a capital and a digit, as Cherry wants it."""
    letters = string.ascii_letters + string.digits
    kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
    rest = [secrets.choice(letters) for _ in range(_PASSWORD_LENGTH - len(kinds))]
    password = "".join([secrets.choice(kind) for kind in kinds] + rest)
    register_secret(password)
    return password
