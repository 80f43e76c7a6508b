"""The lease of a host: who changes it now. A lock on this machine, and a lease with a token in the store for all others."""

import fcntl
import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qtrade.errors import ConflictError, QtradeError
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import Store
from qtrade.store.leases import LEASE_S, Lease, LeaseLost, Leases

_RENEW_S = LEASE_S / 6


def _uptime() -> float:
    """Return seconds that also pass while the machine sleeps, and that no one sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HeldHost:
    """A lease that is held and renewed. `token` grows with every holder of the host.

    `quarantine` is set by who leaves the host to a person, with the reason.
    """

    def __init__(self, leases: Leases, lease: Lease, reporter: Reporter, *, renew_s: float) -> None:
        self._leases, self._lease, self._reporter, self._renew_s = leases, lease, reporter, renew_s
        self.quarantine = ""
        self._lost: QtradeError | None = None
        # Of this machine's own clock, which cannot be set and which counts its sleep.
        self._ends = _uptime() + lease.expires - time.time()
        self._renewing = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease of {lease.host}", daemon=True)
        self._thread.start()

    @property
    def token(self) -> int:
        """Return the token, which jobs carry: a host refuses a smaller one than the last it saw."""
        return self._lease.token

    @property
    def holder(self) -> str:
        """Return who holds the host, as others are told."""
        return self._lease.holder

    def check(self) -> None:
        """Raise `LeaseLost` when somebody else has taken the host, or may have: a laptop that slept renewed nothing meanwhile."""
        if self._lost is None and _uptime() >= self._ends:
            self._renew_late()
        if self._lost is not None:
            raise LeaseLost(
                f"the lease of {self._lease.host} is lost: {self._lost.brief}",
                details=self._lost.details,
                resolution="look at what the other one does (`qtrade hosts show`) before you go on",
            )

    def end(self) -> None:
        """Stop renewing, and give the lease back."""
        self._over.set()
        self._thread.join()
        try:
            self._leases.release(self._lease, quarantine=self.quarantine)
        except QtradeError as error:
            self._reporter.say(
                f"warning: the lease of {self._lease.host} was not given back ({error.brief}); it runs out by itself"
                + (f"; nobody is warned that the host is quarantined: {self.quarantine}" if self.quarantine else "")
            )

    def _keep(self) -> None:
        warned = False
        while not self._over.wait(self._renew_s):
            try:
                self._renew()
                warned = False
            except ConflictError as error:
                self._lost = error
                return
            except (QtradeError, OSError) as error:
                # The token keeps the host safe should somebody else take over meanwhile.
                if not warned:
                    self._reporter.say(f"warning: the lease of {self._lease.host} could not be renewed: {error}")
                warned = True

    def _renew(self) -> None:
        with self._renewing:
            began = _uptime()
            self._lease = self._leases.renew(self._lease)
            self._ends = began + LEASE_S

    def _renew_late(self) -> None:
        """Renew a lease that has run out: where nobody took it meanwhile, it goes on."""
        try:
            self._renew()
        except ConflictError as error:
            self._lost = error
        except (QtradeError, OSError) as error:
            raise LeaseLost(
                f"the lease of {self._lease.host} ran out and could not be renewed: {error}",
                details="whether somebody else holds the host now, only the store can tell",
                resolution="run the same command again once the store answers: it takes the flash up where it stopped",
            ) from error


@contextmanager
def lease(
    settings: Settings, store: Store, host: str, reporter: Reporter, *, renew_s: float = _RENEW_S, clears: bool = False
) -> Iterator[HeldHost]:
    """Hold the host: one flash, push or rollback at a time, here and on every machine with this store. `clears` ends a quarantine.

    Raises `ConflictError`, naming who holds it since when, or why it is in quarantine.
    """
    leases = Leases(store.objects)
    with _held_here(settings, leases, host):
        who = f"{getpass.getuser()}@{socket.gethostname()}"
        where = f"{socket.gethostname()}:{_own_id(settings)}"
        taken, before = leases.take(host, holder=who, pid=os.getpid(), where=where, clears=clears)
        if before is not None and not before.released:
            reporter.say(
                f"the lease of {host} is taken over from {before.holder} (process {before.pid}), which did not give it back"
            )
        if before is not None and before.quarantine:
            reporter.say(f"{host} is out of quarantine; it was in because: {before.quarantine}")
        held = HeldHost(leases, taken, reporter, renew_s=renew_s)
        try:
            yield held
        finally:
            held.end()


@contextmanager
def _held_here(settings: Settings, leases: Leases, host: str) -> Iterator[None]:
    path = settings.state_dir / "leases" / host
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            by = None
            with suppress(QtradeError):
                by = leases.read(host)
            who = f": {by.holder}, process {by.pid}" if by is not None and not by.released else ""
            raise ConflictError(
                f"{host} is held by another process that flashes, pushes or rolls back{who}",
                resolution="wait for it to end",
            ) from error
        yield


def _own_id(settings: Settings) -> str:
    """Return what tells this state directory from all others; machines may share a name."""
    path = settings.state_dir / "leases/.id"
    with suppress(FileExistsError):
        fresh = Path(f"{path}.{os.getpid()}.{secrets.token_hex(4)}")
        fresh.write_text(secrets.token_hex(16))
        try:
            path.hardlink_to(fresh)
        finally:
            fresh.unlink()
    return path.read_text()
