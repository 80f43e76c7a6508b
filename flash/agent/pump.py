"""Writes in a thread of its own what another one reads from the network: neither waits for the other."""

import queue
import threading
from types import TracebackType
from typing import Optional, Type

from .partial import Partial

# Pieces that wait to be written.
_WAITING = 4


class Pump:
    """A context manager; in its end everything is written, or the error of the write raised."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._pieces: "queue.Queue[Optional[bytes]]" = queue.Queue(_WAITING)
        self._error: Optional[Exception] = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Pump":  # noqa: PYI034 - Python 3.9 has no Self
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._pieces.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    @property
    def has_failed(self) -> bool:
        """Say whether a write failed; the end of the context raises why."""
        return self._error is not None

    def put(self, data: bytes) -> None:
        """Hand a piece over; waits while others wait already."""
        self._pieces.put(data)

    def _run(self) -> None:
        while True:
            piece = self._pieces.get()
            if piece is None:
                return
            if self._error is None:
                try:
                    self._partial.add(piece)
                except Exception as error:  # noqa: BLE001 - raised where the context ends
                    self._error = error
