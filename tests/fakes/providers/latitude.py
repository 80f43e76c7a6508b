"""Latitude.sh: JSON:API. Shapes are those of its SDK, latitudesh-python-sdk (tests/contracts/latitude.json says where each stands)."""

from typing import Any, ClassVar

from tests.fakes.providers.machine import Machine
from tests.fakes.providers.provider import Call, FakeProvider, Reply, ipxe_then, stock_system

LOCKED = "Server is locked"
BUSY = "Server has an operation under way"


class FakeLatitude(FakeProvider):
    """One server. Locked, it refuses everything ("no actions can be performed on it", as the SDK says)."""

    content_type: ClassVar[str] = "application/vnd.api+json; charset=utf-8"

    def __init__(
        self,
        machine: Machine,
        *,
        token: str = "latitude-token",
        server_id: str = "sv_2GmAlJ6BXlK1a",
        transition_s: float = 3.0,
        stale_s: float = 0.0,
    ) -> None:
        super().__init__(machine, token=token, transition_s=transition_s, stale_s=stale_s)
        self.server_id = server_id
        self.is_locked = False
        self.rescue_allowed = True
        self.fails_deployment = False
        self.keys: dict[str, dict[str, str]] = {}

    def power_status(self, *, is_on: bool) -> str:
        return "on" if is_on else "off"

    def denied(self) -> Reply:
        return error(401, "unauthorized", "Invalid token")

    def answer(self, call: Call) -> Reply:
        match call.method, call.path.strip("/").split("/"):
            case "GET", ["servers", self.server_id]:
                return Reply(200, self._server())
            case "POST", ["servers", self.server_id, verb]:
                return self._act(verb, call.body)
            case "GET", ["ssh_keys"]:
                return Reply(200, {"data": [key_document(*item) for item in self.keys.items()], "meta": {}})
            case "POST", ["ssh_keys"]:
                identifier = f"ssh_{len(self.keys) + 1:013d}"
                self.keys[identifier] = dict(call.body["data"]["attributes"])
                return Reply(201, {"data": key_document(identifier, self.keys[identifier])})
            case "GET", ["plans", "operating_systems"]:
                return Reply(200, {"data": [os_document("debian_13", "debian"), os_document("ipxe", "")], "meta": {}})
        return error(404, "not_found", "Specified Record Not Found")

    def _act(self, verb: str, body: Any) -> Reply:
        if verb in ("lock", "unlock"):
            self.is_locked = verb == "lock"
            return Reply(200, self._server())
        if self.is_locked or self.is_busy:
            return error(423, "locked", LOCKED) if self.is_locked else error(409, "conflict", BUSY)
        match verb:
            case "actions":
                return self._switch(body["data"]["attributes"]["action"])
            case "reinstall":
                return self._reinstall(body["data"]["attributes"])
            case "rescue_mode" if not self.rescue_allowed:
                return error(422, "unprocessable", "Rescue mode is not available for this server")
            case "rescue_mode":
                self.begin("entering_rescue_mode", work=self._rescue, then="rescue_mode")
            case "exit_rescue_mode":
                self.begin("exiting_rescue_mode", work=self.machine.boot_disk)
        return Reply(201, {"meta": {}})

    def _switch(self, action: str) -> Reply:
        off = self.machine.power_off

        def reboot() -> None:
            off()
            self.machine.power_on()

        work = {"power_on": self.machine.power_on, "power_off": off, "reboot": reboot}[action]
        self.begin(self.power_status(is_on=self.machine.is_on), work=work)
        return Reply(201, {"data": {"id": "ac_1", "type": "actions", "attributes": {"status": "queued"}}, "meta": {}})

    def _rescue(self) -> None:
        self.machine.boot_rescue(password=None)

    def _reinstall(self, attributes: dict[str, Any]) -> Reply:
        name = attributes["operating_system"]
        if name == "ipxe" and not attributes.get("ipxe"):
            return error(422, "VALIDATION_ERROR", "iPXE can't be blank")
        if name == "ipxe":
            work = ipxe_then(self.machine, attributes["ipxe"], wipes=True)
        else:
            keys = tuple(self.keys[key]["public_key"] for key in attributes.get("ssh_keys") or ())
            work = stock_system(self.machine, attributes["hostname"], keys)
        self.begin("disk_erasing", "deploying", work=work, then="failed_deployment" if self.fails_deployment else None)
        return Reply(201)

    def _server(self) -> dict[str, Any]:
        attributes = {
            "hostname": "rpc-1",
            "label": "rpc-1",
            "status": self.status,
            "ipmi_status": "Normal",
            "locked": self.is_locked,
            "rescue_allowed": self.rescue_allowed,
            "primary_ipv4": "203.0.113.10",
            "operating_system": {"name": "Debian 13", "slug": "debian_13", "features": {"rescue": True}},
        }
        return {"data": {"id": self.server_id, "type": "servers", "attributes": attributes}, "meta": {}}


def error(status: int, code: str, detail: str) -> Reply:
    """Return an error as JSON:API has them."""
    return Reply(status, {"errors": [{"code": code, "status": str(status), "title": detail, "detail": detail}]})


def key_document(identifier: str, attributes: dict[str, str]) -> dict[str, Any]:
    return {"id": identifier, "type": "ssh_keys", "attributes": {"tags": [], **attributes}}


def os_document(slug: str, user: str) -> dict[str, Any]:
    attributes = {"name": slug, "slug": slug, "distro": slug.partition("_")[0], "user": user, "provisionable_on": []}
    return {"id": f"os_{slug}", "type": "operating_system", "attributes": attributes}
