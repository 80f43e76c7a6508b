"""Cherry Servers. Shapes are those of its Go client, cherrygo v4 (tests/contracts/cherry.json says where each stands)."""

import base64
import re
from typing import Any, ClassVar

from tests.fakes.providers.machine import Machine
from tests.fakes.providers.provider import Call, FakeProvider, Reply, ipxe_then, stock_system

IPXE_IMAGE = "custom_ipxe_install"


class FakeCherry(FakeProvider):
    """One server. It takes an iPXE script and not a URL, so the machine gets the URL that the script chains to."""

    prefix: ClassVar[str] = "/v1"

    def __init__(
        self,
        machine: Machine,
        *,
        token: str = "cherry-token",
        server_id: int = 383531,
        transition_s: float = 3.0,
        stale_s: float = 0.0,
    ) -> None:
        super().__init__(machine, token=token, transition_s=transition_s, stale_s=stale_s)
        self.server_id = server_id
        self.keys: list[dict[str, Any]] = []
        self.rescue_password: str | None = None
        self.resting = "deployed"
        self.power: str | None = None

    def power_status(self, *, is_on: bool) -> str:
        del is_on
        return "deployed"

    def denied(self) -> Reply:
        return Reply(401, {"code": 401, "message": "Unauthorized"})

    def answer(self, call: Call) -> Reply:
        match call.method, call.path.removeprefix(self.prefix).strip("/").split("/"):
            case "GET", ["servers", number] if number == str(self.server_id):
                return Reply(200, {"power": self._power()} if call.query.get("fields") == "power" else self._server())
            case "POST", ["servers", number, "actions"] if number == str(self.server_id):
                return self._act(call.body)
            case "GET", ["plans", "amd-epyc-7443p", "images"]:
                slugs = ("ubuntu_24_04", "debian_12", "debian_13")
                return Reply(200, [{"id": 1, "name": slug.replace("_", " ").title(), "slug": slug} for slug in slugs])
            case "GET", ["ssh-keys"]:
                return Reply(200, self.keys)
            case "POST", ["ssh-keys"]:
                self.keys.append({"id": len(self.keys) + 1, **call.body})
                return Reply(201, self.keys[-1])
        return Reply(404, {"code": 404, "message": "Server not found"})

    def _act(self, body: dict[str, Any]) -> Reply:
        if self.is_busy:
            return Reply(409, {"code": 409, "message": "Another action is in progress"})
        machine, rested = self.machine, self.resting
        self.power = self._power()
        match body["type"]:
            case "power_on":
                self.begin(self.status, work=machine.power_on, then=rested)
            case "power_off":
                self.begin(self.status, work=machine.power_off, then=rested)
            case "enter-rescue-mode":
                password = self.rescue_password = body["password"]
                self.begin(
                    "entering rescue mode", work=lambda: machine.boot_rescue(password=password), then="rescue mode"
                )
            case "exit-rescue-mode":
                self.begin("exiting rescue mode", work=machine.boot_disk, then="deployed")
            case "reinstall":
                return self._reinstall(body)
            case other:
                return Reply(400, {"code": 400, "message": f"Unknown action {other}"})
        return Reply(201, self._server())

    def _reinstall(self, body: dict[str, Any]) -> Reply:
        if not body.get("image") or not body.get("password"):
            return Reply(422, {"code": 422, "message": "image and password are required"})
        if body["image"] == IPXE_IMAGE:
            script = base64.b64decode(body["ipxe"], validate=True).decode()
            found = re.fullmatch(r"#!ipxe\n.*chain \S*?\s?(http\S+)\n.*", script, re.DOTALL)
            if found is None:
                return Reply(422, {"code": 422, "message": "ipxe must start with #!ipxe"})
            self.begin("deploying", work=ipxe_then(self.machine, found[1], wipes=True), then="allocated")
        else:
            keys = tuple(key["key"] for key in self.keys if str(key["id"]) in body["ssh_keys"])
            self.begin("deploying", work=stock_system(self.machine, body["hostname"], keys), then="deployed")
        return Reply(201, self._server())

    def _power(self) -> str:
        if self.is_busy and self.power is not None:
            return self.power
        return "on" if self.machine.is_on else "off"

    def _server(self) -> dict[str, Any]:
        return {
            "id": self.server_id,
            "name": "AMD EPYC 7443P",
            "href": f"/servers/{self.server_id}",
            "hostname": "rpc-1",
            "username": "root",
            "state": "active",
            "status": self.status,
            "plan": {"slug": "amd-epyc-7443p"},
        }
