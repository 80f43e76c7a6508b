"""TeraSwitch. Shapes are those of its own API document (tests/contracts/teraswitch.json says where each stands)."""

from typing import Any, ClassVar

from tests.fakes.providers.machine import Machine
from tests.fakes.providers.provider import Call, FakeProvider, Reply, ipxe_then, stock_system


class FakeTeraswitch(FakeProvider):
    """One metal service. Power shows in `powerState`, everything else in `status` and `currentTask`."""

    content_type: ClassVar[str] = "application/json; charset=utf-8"

    def __init__(
        self,
        machine: Machine,
        *,
        token: str = "7:teraswitch-secret",
        server_id: int = 1042,
        transition_s: float = 3.0,
        stale_s: float = 0.0,
    ) -> None:
        super().__init__(machine, token=token, transition_s=transition_s, stale_s=stale_s)
        self.server_id = server_id
        self.keys: list[dict[str, Any]] = []
        self.power: str | None = None

    def power_status(self, *, is_on: bool) -> str:
        del is_on
        return "Active"

    def denied(self) -> Reply:
        return Reply(401, {"success": False, "message": "Unauthorized"})

    def answer(self, call: Call) -> Reply:
        match call.method, call.path.strip("/").split("/"):
            case _, ["v2", "Metal", number, *verb] if number == str(self.server_id):
                return self._serve(verb, call)
            case "GET", ["v2", "Image"]:
                return Reply(200, {"success": True, "result": [image("debian-12", "12"), image("debian-13", "13")]})
            case "GET", ["v2", "SshKey"]:
                return Reply(200, {"success": True, "result": self.keys})
            case "POST", ["v2", "SshKey"]:
                self.keys.append({"id": len(self.keys) + 1, **call.body})
                return Reply(200, {"success": True, "result": self.keys[-1]})
        return Reply(404, {"success": False, "message": "Service not found"})

    def _serve(self, verb: list[str], call: Call) -> Reply:
        match call.method, verb:
            case "POST", ["PowerCommand"]:
                return self._switch(call.query.get("command", ""))
            case "POST", ["Reinstall"]:
                return self._reinstall(call.body)
        return self._service()

    def _switch(self, command: str) -> Reply:
        work = {"PowerOn": self.machine.power_on, "PowerOff": self.machine.power_off}.get(command)
        if work is None:
            return Reply(400, {"success": False, "message": f"The value '{command}' is not valid."})
        self.power = self._power()
        self.begin("Active", work=work)
        return self._service()

    def _reinstall(self, body: dict[str, Any]) -> Reply:
        missing = [name for name in ("regionId", "tierId") if not body.get(name)]
        if missing:
            return Reply(400, {"success": False, "message": f"The {missing[0]} field is required."})
        if body.get("ipxeUrl"):
            work = ipxe_then(self.machine, body["ipxeUrl"], wipes=True)
        else:
            keys = tuple(key["key"] for key in self.keys if key["id"] in body["sshKeyIds"])
            work = stock_system(self.machine, body["displayName"], keys)
        self.begin("Provisioning", work=work)
        return self._service()

    def _power(self) -> str:
        return "On" if self.machine.is_on else "Off"

    def _service(self) -> Reply:
        shown = self.status
        service = {
            "id": self.server_id,
            "status": shown,
            "displayName": "rpc-1",
            "regionId": "EWR1",
            "tierId": "7443p-256g",
            "powerState": self.power if self.is_busy and self.power else self._power(),
            "currentTask": None if shown == "Active" else "Reinstall",
            "provisioningEvents": [],
            "imageId": "debian-12",
            "ipAddresses": ["203.0.113.20"],
        }
        if not self.is_busy:
            self.power = None
        return Reply(200, {"success": True, "message": None, "result": service})


def image(identifier: str, version: str) -> dict[str, Any]:
    return {"id": identifier, "displayName": f"Debian {version}", "operatingSystemName": "Debian"} | {
        "operatingSystemVersion": version
    }
