"""Notices a host that boots from its disk again instead of what it was told to boot: its own agent answers, after another boot."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from flash.access import HostAccess
from qtrade.errors import HostError, QtradeError

# Hosts take 5 new connections in 30 s (role ufw_solana).
_EVERY_S = 20.0
_ANSWER_S = 15
CODE = "booted-from-disk"


class BootWatch:
    """Asks the host's agent, over its pinned key, while the installer or a rescue system is waited for.

    `boot_id` is of the system that was left, None where none answered. As a context manager it asks in the background, and gives
    `tell` the event of an error, once. A host whose key is not known is never asked.
    """

    def __init__(
        self, access: HostAccess, boot_id: str | None, tell: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> None:
        self._access, self._boot_id, self._tell = access, boot_id, tell
        self._asked = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="boot watch", daemon=True)

    def __enter__(self) -> Self:
        if self._access.is_known:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def look(self) -> None:
        """Ask, but not more often than the host lets in. Raises `HostError` when it runs from its disk again."""
        if not self._access.is_known or time.monotonic() - self._asked < _EVERY_S:
            return
        self._asked = time.monotonic()
        try:
            status = self._access.link.status(timeout_s=_ANSWER_S)
        except QtradeError:
            return
        if status["boot_id"] != self._boot_id:
            raise HostError(
                f"{self._access.host.name} booted from its disk, not what it was told to",
                details=f"boot_id {status['boot_id']}, image {str(status.get('image'))[:16]}…",
                resolution="look at its boot order, and whether its BMC keeps a boot override",
            )

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S / 10):
            try:
                self.look()
            except HostError as error:
                if not self._over.is_set():
                    told = {"code": CODE, "message": f"{error.brief} ({error.details})", "remedy": error.resolution}
                    self._tell({"event": "error", "error": told})
                return
