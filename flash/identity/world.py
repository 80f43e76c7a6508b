"""What a move of an identity needs of the world: hosts, their power, the cluster. `reach` has the real one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flash.identity.facts import Chain, HostState, Stop

# Files by kind, `tower` and `history`.
VoteFiles = dict[str, bytes]


@dataclass(frozen=True)
class Order:
    """What a host is told with the key. It takes it in this boot only, while the challenge is fresh, and on files of these SHA-256.

    `files` are those that it does not have; what `digests` leaves out does not count there any more. `lost`: nothing is to go on with.
    """

    identity: str
    number: int
    boot_id: str
    challenge: str
    digests: dict[str, str]
    files: VoteFiles = field(repr=False)
    lost: bool


class World(Protocol):
    """The world. Each call may fail with `HostError` unless it says otherwise, and `LeaseLost` comes before anything is touched."""

    def look_at(self, host: str) -> HostState | None:
        """Ask a host for its state and a challenge; None when it does not answer."""

    def look_at_all(self, hosts: Sequence[str]) -> dict[str, HostState | None]:
        """As `look_at`, of several at once."""

    def release(self, host: str, number: int, *, window_s: float = 0) -> tuple[Stop, VoteFiles] | None:
        """Make a host leave the identity; None when it does not answer. Its word has no slot yet.

        With `window_s` it waits so long for two minutes in which it leads no slot, and leaves the identity in these only.
        """

    def cut_power(self, host: str) -> tuple[str, ...]:
        """Have the BMC cut the power, and return every state that it told, in order."""

    def look_at_chain(self) -> Chain:
        """Ask the references. One that does not answer counts as such."""

    def give(self, host: str, order: Order) -> HostState:
        """Send the order with the staked key, and return the state afterwards."""

    def find_fault(self, host: str) -> tuple[str, str]:
        """Return why the leases do not hold, and which flash of the host is open; empty where nothing is."""

    def pause(self) -> bool:
        """Let the cluster go on for a while; False once that was long enough."""

    def say(self, text: str) -> None:
        """Tell people."""
