"""phoenixNAP's Bare Metal Cloud. Shapes are those of its API document (specs/pnap_bmc_api.spec.yaml of phoenixnap/python-sdk-bmc, 6ca62c0).

A reboot may go into an iPXE script of ours, once, and is no reinstall: the disks stay. There is no rescue system, and a reinstall
is what the provider advises against (`actions/reset` is deprecated), so this driver has neither.
"""

from collections.abc import Callable

from flash.drivers.abilities import PowerState
from flash.drivers.api import Answer, Json
from flash.drivers.provider import ProviderDriver
from flash.drivers.waiting import once

REBOOTING = "rebooting"


class _Server(Answer):
    status: str


class PhoenixnapDriver(ProviderDriver):
    """Power and a boot into iPXE of one server."""

    def power_state(self) -> PowerState:
        """Ask for the state now."""
        return _POWER.get(self._status(), PowerState.UNKNOWN)

    def boot_ipxe(self, url: str) -> None:
        """Reboot into the script at `url`, once; nothing is erased. A server that is off is switched on first."""
        self.power_on()
        body = {"bootType": "IPXE", "ipxeUrl": url}
        begun = once(lambda status: status == REBOOTING)
        self._act("boot iPXE", "reboot", body, has_begun=lambda: begun(self._status()))
        self._see_begin(self._status, begun, "boot iPXE")

    def _request_power(self, wanted: PowerState, has_begun: Callable[[], bool]) -> None:
        verb = "power-on" if wanted is PowerState.ON else "power-off"
        self._act(f"switch {wanted.lower()}", verb, has_begun=has_begun)

    def _act(self, what: str, verb: str, body: Json | None = None, *, has_begun: Callable[[], bool]) -> None:
        self._api.act(what, f"/servers/{self._server_id}/actions/{verb}", body, has_begun=has_begun)

    def _status(self) -> str:
        return self._api.get("read the server", f"/servers/{self._server_id}", _Server).status


_POWER = {
    "powered-on": PowerState.ON,
    "powered-off": PowerState.OFF,
}
