"""The lease of a host: who changes it now."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from qtrade.errors import ConflictError
from qtrade.settings import Settings


@contextmanager
def lease(settings: Settings, host: str) -> Iterator[None]:
    """Hold the host on this machine: one flash, push or rollback at a time. Raises `ConflictError`, naming who holds it."""
    path = settings.state_dir / "leases" / host
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"{host} is held by another process that flashes, pushes or rolls back", resolution="wait for it to end"
            ) from error
        yield
