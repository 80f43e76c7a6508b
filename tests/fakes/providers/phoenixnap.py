"""phoenixNAP's Bare Metal Cloud. Shapes are those of its own API document (tests/contracts/phoenixnap.json says where each stands)."""

import base64
from typing import Any, ClassVar

from tests.fakes.providers.machine import Machine
from tests.fakes.providers.provider import Call, FakeProvider, Reply, ipxe_then

TOKEN_PATH = "/auth/realms/BMC/protocol/openid-connect/token"


class FakePhoenixnap(FakeProvider):
    """One server and the token endpoint. Tokens live for `token_s`; `revoke` ends the one that is out."""

    prefix: ClassVar[str] = "/bmc/v1"

    def __init__(
        self,
        machine: Machine,
        *,
        client_id: str = "client-1",
        client_secret: str = "phoenixnap-secret",
        server_id: str = "651bf71fbde0c93e102ab180",
        transition_s: float = 3.0,
        stale_s: float = 0.0,
    ) -> None:
        super().__init__(machine, token="none yet", transition_s=transition_s, stale_s=stale_s)
        self.server_id = server_id
        self.token_s = 300
        self.tokens_given = 0
        self._credentials = f"{client_id}:{client_secret}"

    @property
    def auth_url(self) -> str:
        """Where tokens are had, as a host manifest has it."""
        return self.root + TOKEN_PATH

    def revoke(self) -> None:
        """Refuse the token that was given last."""
        self.token = "revoked"

    def power_status(self, *, is_on: bool) -> str:
        return "powered-on" if is_on else "powered-off"

    def is_authorised(self, call: Call) -> bool:
        if call.path != TOKEN_PATH:
            return super().is_authorised(call)
        expected = base64.b64encode(self._credentials.encode()).decode()
        return call.headers.get("authorization") == f"Basic {expected}"

    def denied(self) -> Reply:
        return Reply(401, {"message": "Unauthorized", "validationErrors": []})

    def answer(self, call: Call) -> Reply:
        if (call.method, call.path) == ("POST", TOKEN_PATH):
            return self._give_token(call.body)
        match call.method, call.path.removeprefix(self.prefix).strip("/").split("/"):
            case "GET", ["servers", self.server_id]:
                return Reply(200, self._server())
            case "POST", ["servers", self.server_id, "actions", verb]:
                return self._act(verb, call.body or {})
        return Reply(404, {"message": "The server does not exist", "validationErrors": []})

    def _give_token(self, form: dict[str, str]) -> Reply:
        if form.get("grant_type") != "client_credentials":
            return Reply(400, {"error": "unsupported_grant_type"})
        self.tokens_given += 1
        self.token = f"access-token-{self.tokens_given}"
        return Reply(200, {"access_token": self.token, "expires_in": self.token_s, "token_type": "Bearer"})

    def _act(self, verb: str, body: dict[str, Any]) -> Reply:
        if self.is_busy:
            return Reply(409, {"message": "The server is busy", "validationErrors": []})
        match verb:
            case "power-on":
                self.begin("powered-off", work=self.machine.power_on)
            case "power-off":
                self.begin("powered-on", work=self.machine.power_off)
            case "reboot" if not self.machine.is_on:
                return Reply(409, {"message": "The server is powered off", "validationErrors": []})
            case "reboot" if body.get("bootType") == "IPXE":
                self.begin("rebooting", work=ipxe_then(self.machine, body["ipxeUrl"], wipes=False))
            case "reboot":
                self.begin("rebooting", work=self.machine.boot_disk)
            case _:
                return Reply(404, {"message": "Not found", "validationErrors": []})
        return Reply(200, {"result": f"{verb} of the server is under way."})

    def _server(self) -> dict[str, Any]:
        return {
            "id": self.server_id,
            "status": self.status,
            "hostname": "rpc-1",
            "type": "s2.c1.medium",
            "location": "PHX",
            "cpu": "EPYC 7443P",
            "cpuCount": 1,
            "coresPerCpu": 24,
            "cpuFrequency": 2.85,
            "ram": "256GB RAM",
            "storage": "2x 1.9TB NVMe",
            "privateIpAddresses": ["10.0.0.11"],
            "publicIpAddresses": ["203.0.113.30"],
            "pricingModel": "HOURLY",
            "networkConfiguration": {},
            "storageConfiguration": {},
        }
