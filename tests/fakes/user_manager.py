"""A real manager of systemd, for units in a folder of the test: a user's one, with a /run of its own. It takes root."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
MANAGER = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && mkdir -m 700 "$XDG_RUNTIME_DIR"
exec /lib/systemd/systemd --user --unit=default.target --log-target=console
"""


class Manager:
    """A user's manager of systemd, with units in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.units = folder, folder / "config/systemd/user"
        self.units.mkdir(parents=True)
        (self.units / "default.target").write_text("[Unit]\nDescription=Nothing\n")
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": "/run/manager", "XDG_CONFIG_HOME": str(folder / "config")}
        with (folder / "log").open("w") as log:
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MANAGER]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.wait_until(lambda: self.ctl("show", "default.target").returncode == 0)

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl in the manager's own /run."""
        inside = ["nsenter", f"--target={self.process.pid}", "--mount", "--", "systemctl", "--user", *words]
        return subprocess.run(inside, env=self.environment, capture_output=True, text=True, check=False, timeout=60)

    def sh(self, script: str) -> None:
        """Run a script where the manager's mounts are."""
        inside = ["nsenter", f"--target={self.process.pid}", "--mount", "--", "sh", "-euc", script]
        subprocess.run(inside, check=True, timeout=60)

    def show(self, unit: str) -> dict[str, str]:
        """Return what the manager says of a unit."""
        shown = self.ctl("show", "--property=ActiveState,Result,NRestarts", unit).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def close(self) -> None:
        """End the manager and what it runs."""
        self.ctl("exit")
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_until(self, is_done: Callable[[], bool], within_s: float = 30) -> None:
        deadline = time.monotonic() + within_s
        while not is_done():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.1)
