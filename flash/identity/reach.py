"""The real world of a move: hosts over SSH with their pinned keys, their power by their drivers, the cluster by its references."""

import json
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from flash.access import HeldAccess
from flash.drivers import PowerControl, PowerState
from flash.identity.answers import read_state, read_stop, write_order
from flash.identity.chain import ask_references
from flash.identity.facts import Chain, HostState, Stop
from flash.identity.tower import address_of
from flash.identity.world import Order, VoteFiles
from flash.inventory import environment_named
from flash.journal import latest
from flash.lease import HeldHost
from flash.secrets import resolve
from flash.ssh import known_hosts_path, target_for
from qtrade.errors import BadInput, HostError, ToolError
from qtrade.manifest import Host, Identity
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.store.leases import LeaseLost

_PROGRAM = "sudo -n -u sol /usr/lib/qtrade/agave/identity.py"
# Longer than what the program itself waits for its validator, which may be several times.
_ANSWER_S = 150.0
# Between two looks at the power and at the chain; and how long the distance may take: it is some 80 s of a healthy cluster.
_POWER_PAUSE_S = 5.0
_CHAIN_PAUSE_S = 5.0
_PATIENCE_S = 900.0


class _Silent(HostError):
    """A host does not answer."""


@dataclass
class Reach:
    """The world as an operator's machine reaches it. `held` are the leases; without any, nothing is to be changed."""

    settings: Settings
    store: Store
    identity: Identity
    hosts: dict[str, Host]
    reporter: Reporter
    held: dict[str, HeldHost] = field(default_factory=dict)
    began: float | None = None

    def look_at(self, host: str) -> HostState | None:
        """Ask for a state; a host whose answer is of no use says why, and counts as silent."""
        try:
            return read_state(host, self.identity.address, self._ask(host, "state", {}))
        except HostError as error:
            self.say(f"{host}: {error.brief} {error.details}".strip())
            return None

    def look_at_all(self, hosts: Sequence[str]) -> dict[str, HostState | None]:
        """Ask them side by side: silent ones take their time."""
        with ThreadPoolExecutor(max_workers=max(len(hosts), 1)) as pool:
            return dict(zip(hosts, pool.map(self.look_at, hosts), strict=True))

    def release(self, host: str, number: int, *, window_s: float = 0) -> tuple[Stop, VoteFiles] | None:
        """Make it leave the identity. Raises `HostError` where it answers, and cannot."""
        self._check_held()
        try:
            answer = self._ask(host, "release", {"number": number, "window_s": window_s}, more_s=window_s)
        except _Silent as error:
            self.say(f"{host}: {error.brief} {error.details}".strip())
            return None
        return read_stop(host, self.identity.address, number, answer)

    def cut_power(self, host: str) -> tuple[str, ...]:
        """Cut the power, seen on before and off twice. One that is off already is switched on first: a host boots unstaked."""
        lease = self.held[host]
        access = HeldAccess(self.settings, self.hosts[host], self.store, self.reporter, lease.token, lease.check)
        with access.driver(PowerControl) as driver, self.reporter.step(f"cut the power of {host}"):
            seen = [driver.power_state()]
            if seen[0] is PowerState.OFF:
                try:
                    driver.power_on()
                except HostError as error:
                    self.say(f"{host}: {error.brief}")
                seen.append(driver.power_state())
            driver.power_off()
            for _ in range(2):
                time.sleep(_POWER_PAUSE_S)
                seen.append(driver.power_state())
        return tuple(str(state) for state in seen)

    def look_at_chain(self) -> Chain:
        """Ask the references."""
        return ask_references(self.identity.reference_rpcs, self.identity.vote_account, self.say)

    def give(self, host: str, order: Order) -> HostState:
        """Send order and key on stdin. Raises `HostError`."""
        self._check_held()
        keypair = list(load_keypair(self.settings, self.identity))
        answer = self._ask(host, "take", {"order": write_order(order), "keypair": keypair})
        return read_state(host, self.identity.address, answer)

    def find_fault(self, host: str) -> tuple[str, str]:
        """Return whether a lease is lost, and whether a flash of the host is open."""
        journal = latest(self.settings.state_dir / "flashes" / host)
        is_open = journal is not None and journal.is_open
        open_flash = f"a flash of {host} is open, it stands at {journal.state}" if journal and is_open else ""
        try:
            self._check_held()
        except LeaseLost as error:
            return error.brief, open_flash
        return "", open_flash

    def pause(self) -> bool:
        """Wait a little, up to a quarter of an hour in all."""
        self.began = self.began or time.monotonic()
        time.sleep(_CHAIN_PAUSE_S)
        return time.monotonic() - self.began < _PATIENCE_S

    def say(self, text: str) -> None:
        """Tell people."""
        self.reporter.say(text)

    def _check_held(self) -> None:
        for lease in self.held.values():
            lease.check()

    def _ask(self, host: str, verb: str, request: dict[str, Any], *, more_s: float = 0) -> dict[str, Any]:
        """Return the answer of the host's own program. Raises `_Silent` for none, `HostError` for a refusal."""
        known = self.hosts[host]
        if not known_hosts_path(self.settings, host).is_file():
            raise _Silent(f"{host} has no pinned SSH key: nobody flashed it from here")
        nonce = secrets.token_hex(16)
        stdin = json.dumps({"identity": self.identity.address, "nonce": nonce, **request}).encode()
        target = target_for(self.settings, known, user=known.ssh.operator)
        try:
            done = target.run(f"{_PROGRAM} {verb}", stdin=stdin, timeout_s=_ANSWER_S + more_s, check=False)
        except (HostError, ToolError) as error:
            raise _Silent(error.brief, details=error.details) from error
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
            if not answer["ok"]:
                raise HostError(f"{host}: {verb} of the identity: {answer['error']}")
            if answer["nonce"] != nonce:
                raise HostError(f"{host}: its answer is to another question")
        except (ValueError, LookupError, TypeError) as error:
            raise HostError(
                f"{host}: its identity.py gave no answer (code {done.returncode})",
                details=done.stderr[-500:],
                resolution="flash an image that has it",
            ) from error
        return answer


def load_keypair(settings: Settings, identity: Identity) -> bytes:
    """Return the 64 bytes of the staked key. Raises `BadInput`, `NotFound`; no message shows what was read."""
    where = f"identity {identity.name}: keypair"
    value = resolve(settings, environment_named(settings, identity.environment), where, identity.keypair)
    try:
        keypair = bytes(json.loads(value))
        address = address_of(keypair)
    except (ValueError, TypeError):
        raise BadInput(
            f"{where} is no keypair: not 64 numbers in brackets, of which the second half fits the first",
            resolution="store the file that solana-keygen wrote",
        ) from None
    if address != identity.address:
        raise BadInput(
            f"{where} is the key of {address}, not of {identity.address}",
            resolution="correct `address`, or the secret",
        )
    return keypair
