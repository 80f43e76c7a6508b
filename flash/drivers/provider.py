"""What the drivers of all providers share: power, and the steps of an action."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from flash.drivers.abilities import PowerState
from flash.drivers.api import Api
from flash.drivers.waiting import Waiting
from qtrade.errors import HostError

Judge = Callable[[str], bool]

POWER_S = 600.0
BEGIN_S = 300.0
RESCUE_S = 1200.0
# Cherry's and TeraSwitch's own clients wait for 30 minutes, Cherry's Terraform provider for 60.
REINSTALL_S = 3600.0


class ProviderDriver(ABC):
    """One server at a provider. A context manager that closes the connections; nothing is asked before the first call."""

    def __init__(self, api: Api, waiting: Waiting, server_id: str) -> None:
        self._api = api
        self._server_id = server_id
        self._waiting = waiting

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.close()

    @abstractmethod
    def power_state(self) -> PowerState:
        """Ask for the state now."""

    def power_on(self) -> None:
        """Switch on and wait until the API shows it; nothing happens to a server that is on."""
        if self.power_state() is not PowerState.ON:
            self._switch(PowerState.ON)

    def power_off(self) -> None:
        """Cut the power and wait until the API shows it; nothing happens to a server that is off."""
        if self.power_state() is not PowerState.OFF:
            self._switch(PowerState.OFF)

    def power_cycle(self) -> None:
        """Cut the power, see that it is off, and switch on. The second step is not skipped when an old "on" shows again."""
        self.power_off()
        self._switch(PowerState.ON)

    @abstractmethod
    def _request_power(self, wanted: PowerState, has_begun: Callable[[], bool]) -> None:
        """Ask the API to switch."""

    def _switch(self, wanted: PowerState) -> None:
        def is_there() -> bool:
            return self.power_state() is wanted

        self._request_power(wanted, is_there)
        self._waiting.until(
            self.power_state,
            lambda state: state is wanted,
            what=self._what(f"switch {wanted.lower()}"),
            within_s=POWER_S,
        )

    def _see_begin(self, read: Callable[[], str], begun: Judge, what: str) -> None:
        """Wait for a status that shows that the provider acts; an old one, or the machine's mere power, does not."""
        self._waiting.until(read, begun, what=self._what(what), within_s=BEGIN_S)

    def _see_end(
        self,
        read: Callable[[], str],
        has_ended: Judge,
        what: str,
        *,
        begun: Judge,
        within_s: float,
        failed: Collection[str] = (),
    ) -> None:
        """Wait for a status that ends an action, and believe none until `begun` has seen that the action is under way."""

        def judge(status: str) -> bool:
            return begun(status) and (has_ended(status) or status in failed)

        status = self._waiting.until(read, judge, what=self._what(what), within_s=within_s)
        if status in failed:
            raise HostError(
                f"{self._what(what)}: {status}",
                resolution="see the provider's portal for the reason; nothing on the disks can be relied on now",
            )

    def _what(self, what: str) -> str:
        return f"{self._api.account.provider} {self._server_id}: {what}"
