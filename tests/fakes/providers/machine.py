"""What stands behind a provider's API: a machine with power, a disk, and a network that it may boot from."""

import time
from typing import Protocol


class Machine(Protocol):
    """One machine. Every call does its work before it returns, and may take its time: the provider runs it in a thread."""

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        ...

    def power_on(self) -> None:
        """Start from the disk."""
        ...

    def power_off(self) -> None:
        """Cut the power."""
        ...

    def boot_ipxe(self, url: str) -> None:
        """Start anew, once from the iPXE script at `url`; the start after that is from the disk again."""
        ...

    def boot_rescue(self, *, password: str | None) -> None:
        """Start anew in the rescue system; `password` is root's there, None where only keys log in. The disks stay as they are."""
        ...

    def boot_disk(self) -> None:
        """Start anew from the disk."""
        ...

    def reinstall(self, *, hostname: str, public_keys: tuple[str, ...]) -> None:
        """Erase ALL disks, install a stock system that lets the keys log in, and start it."""
        ...

    def wipe(self) -> None:
        """Erase ALL disks: what a provider does first when it reinstalls, also when iPXE is to do the installing."""
        ...


class SimulatedMachine:
    """Remembers what was done to it, and takes `delay_s` for each start and stop."""

    def __init__(self, *, is_on: bool = True, delay_s: float = 0.0) -> None:
        self.is_on = is_on
        self.delay_s = delay_s
        self.done: list[str] = []
        self.disk = "old system"
        self.running: str | None = "disk" if is_on else None

    def power_on(self) -> None:
        self._start("power on", "disk")

    def power_off(self) -> None:
        self.done.append("power off")
        time.sleep(self.delay_s)
        self.is_on, self.running = False, None

    def boot_ipxe(self, url: str) -> None:
        self._start(f"boot {url}", url)

    def boot_rescue(self, *, password: str | None) -> None:
        self._start(f"rescue {'with' if password else 'without'} a password", "rescue")

    def boot_disk(self) -> None:
        self._start("boot the disk", "disk")

    def reinstall(self, *, hostname: str, public_keys: tuple[str, ...]) -> None:
        self._start(f"reinstall {hostname} for {len(public_keys)} keys", "disk")
        self.disk = "stock system"

    def wipe(self) -> None:
        self.done.append("wipe")
        self.disk = "empty"

    def _start(self, what: str, source: str) -> None:
        self.done.append(what)
        time.sleep(self.delay_s)
        self.is_on, self.running = True, source
