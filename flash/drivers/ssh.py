"""Hosts without any API.

The driver has no abilities, so only doors that need none are open: in place, kexec, and a rescue system that a person booted.
"""

from types import TracebackType
from typing import Self


class SshDriver:
    """Nothing to log in to."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to log out of."""
