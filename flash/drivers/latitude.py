"""Latitude.sh. Shapes and words are those of its SDK (latitudesh-python-sdk 3.4.6) and of facts: flashing, 5.

Not verified live: what the rescue system lets log in, and that it leaves the disks alone; that an iPXE reinstall erases them
(the reinstall says so: "disk_erasing"). A locked server refuses actions, ours too: a flash takes
the lock off, and puts it on again (flash/provider_lock.py).
"""

from collections.abc import Callable

from flash.drivers.abilities import PowerState, RescueLogin
from flash.drivers.api import Answer, Json
from flash.drivers.provider import REINSTALL_S, RESCUE_S, Judge, ProviderDriver
from flash.drivers.stock import is_same_key, newest_debian
from flash.drivers.waiting import once
from qtrade.errors import HostError, Refused

KEY_NAME = "qtrade"
_RESTING = frozenset({"on", "off", "unknown"})
_RESCUED = frozenset({"rescue_mode", "entering_rescue_mode"})
_FAILED = frozenset({"failed_deployment", "failed_disk_erasing"})
_PAGES = 50
_PAGE_SIZE = 100
_LOCK_S = 60.0


class _ServerFields(Answer):
    status: str = "unknown"
    locked: bool = False
    rescue_allowed: bool = True


class _ServerData(Answer):
    attributes: _ServerFields


class _Server(Answer):
    data: _ServerData


class _KeyFields(Answer):
    public_key: str


class _Key(Answer):
    id: str
    attributes: _KeyFields


class _KeyAnswer(Answer):
    data: _Key


class _Keys(Answer):
    data: tuple[_Key, ...]


class _SystemFields(Answer):
    slug: str
    name: str
    user: str | None = None


class _System(Answer):
    attributes: _SystemFields


class _Systems(Answer):
    data: tuple[_System, ...]


class LatitudeDriver(ProviderDriver):
    """Power, rescue, iPXE (a reinstall), reinstall and lock of one server."""

    def power_state(self) -> PowerState:
        """Ask for the state now; a server in rescue mode is on."""
        return _POWER.get(self._read().status, PowerState.UNKNOWN)

    def boot_ipxe(self, url: str) -> None:
        """Reinstall by the iPXE script at `url`: this erases all disks. Later boots are from the disk again."""
        fields = {"operating_system": "ipxe", "ipxe": url, "persistent_netboot": False}
        begun = once(lambda status: status not in _RESTING | _RESCUED | _FAILED)
        self._act("boot iPXE", "reinstall", _body("reinstalls", fields), has_begun=lambda: begun(self._status()))
        self._see_begin(self._status, begun, "boot iPXE")

    def reinstall(self, *, hostname: str, public_key: str) -> str:
        """Install the newest Debian there is, erasing all disks; return the user that Latitude names for it."""
        system = self._stock_system()
        key = self._key(public_key)
        fields = {"operating_system": system.slug, "hostname": hostname, "ssh_keys": [key.id]}
        begun = self._act("reinstall", "reinstall", _body("reinstalls", fields))
        self._see_end(
            self._status,
            lambda status: status == "on",
            "reinstall",
            begun=begun,
            within_s=REINSTALL_S,
            failed=_FAILED,
        )
        return system.user or "root"

    def enter_rescue(self, public_key: str) -> RescueLogin:
        """Boot the rescue system. It takes no key of ours by API; the keys of the server's project are what it knows."""
        del public_key
        # A status from an earlier rescue, perhaps an old one, must not pass for this one.
        self.leave_rescue()
        if not self._read().rescue_allowed:
            raise Refused(
                f"{self._what('enter rescue mode')}: the provider does not allow it for this server",
                resolution="take `rescue` out of the host's doors",
            )
        begun = self._act("enter rescue mode", "rescue_mode")
        self._see_end(
            self._status,
            lambda status: status == "rescue_mode",
            "enter rescue mode",
            begun=begun,
            within_s=RESCUE_S,
        )
        return RescueLogin(user="root")

    def is_in_rescue(self) -> bool:
        """Ask for the mode now."""
        return self._status() in _RESCUED

    def leave_rescue(self) -> None:
        """Leave rescue mode, which starts the server from its disk."""
        if self._status() not in _RESCUED:
            return
        begun = self._act("leave rescue mode", "exit_rescue_mode")
        self._see_end(
            self._status, lambda status: status in ("on", "off"), "leave rescue mode", begun=begun, within_s=RESCUE_S
        )

    def lock(self) -> None:
        """Lock the server: Latitude then refuses every change and action, ours included."""
        self._set_lock(wanted=True)

    def unlock(self) -> None:
        """Take the lock away."""
        self._set_lock(wanted=False)

    def is_locked(self) -> bool:
        """Ask for the lock now."""
        return self._read().locked

    def _set_lock(self, *, wanted: bool) -> None:
        verb = "lock" if wanted else "unlock"
        if self.is_locked() is wanted:
            return
        self._api.act(f"{verb} the server", self._path(verb), has_begun=lambda: self.is_locked() is wanted)
        self._waiting.until(
            self.is_locked, lambda locked: locked is wanted, what=self._what(f"{verb}ed"), within_s=_LOCK_S
        )

    def _request_power(self, wanted: PowerState, has_begun: Callable[[], bool]) -> None:
        action = "power_on" if wanted is PowerState.ON else "power_off"
        self._act(f"switch {wanted.lower()}", "actions", _body("actions", {"action": action}), has_begun=has_begun)

    def _act(
        self, what: str, verb: str, body: Json | None = None, *, has_begun: Callable[[], bool] | None = None
    ) -> Judge:
        """Have the server do something; return what tells that the status is no longer the one from before."""
        before = self._read()
        if before.locked:
            raise Refused(
                f"{self._what(what)}: the server is locked at the provider",
                resolution="see who locked it and why; `unlock` it in the portal if it may be changed",
            )
        begun = once(lambda status: status not in (before.status, "unknown"))
        self._api.act(what, self._path(verb), body, has_begun=has_begun or (lambda: begun(self._status())))
        return begun

    def _stock_system(self) -> _SystemFields:
        query = {"page[size]": str(_PAGE_SIZE)}
        answer = self._api.get("list its systems", "/plans/operating_systems", _Systems, query=query)
        systems = {system.attributes.slug: system.attributes for system in answer.data}
        names = {slug: slug.replace("_", " ") for slug in systems}
        return systems[newest_debian(self._api.account.provider, names)]

    def _key(self, public_key: str) -> _Key:
        if (known := self._find_key(public_key)) is not None:
            return known
        body = _body("ssh_keys", {"name": KEY_NAME, "public_key": public_key})

        def find() -> _KeyAnswer | None:
            known = self._find_key(public_key)
            return None if known is None else _KeyAnswer(data=known)

        return self._api.create("add our SSH key", "/ssh_keys", body, _KeyAnswer, find=find).data

    def _find_key(self, public_key: str) -> _Key | None:
        for number in range(1, _PAGES + 1):
            query = {"page[size]": str(_PAGE_SIZE), "page[number]": str(number)}
            keys = self._api.get("list SSH keys", "/ssh_keys", _Keys, query=query).data
            for key in keys:
                if is_same_key(key.attributes.public_key, public_key):
                    return key
            if len(keys) < _PAGE_SIZE:
                return None
        raise HostError(
            f"{self._api.account.provider} lists more than {_PAGES * _PAGE_SIZE} SSH keys",
            resolution="remove old keys in the portal",
        )

    def _status(self) -> str:
        return self._read().status

    def _read(self) -> _ServerFields:
        return self._api.get("read the server", self._path(), _Server).data.attributes

    def _path(self, *verbs: str) -> str:
        return "/".join(("/servers", self._server_id, *verbs))


_POWER = {"on": PowerState.ON, "off": PowerState.OFF, "rescue_mode": PowerState.ON}


def _body(kind: str, attributes: Json) -> Json:
    return {"data": {"type": kind, "attributes": attributes}}
