"""An operator who runs `qtrade identity` against the hosts of `validator_hosts`."""

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from tests.fakes.towers import address
from tests.fakes.validator_hosts import STAKED, ValidatorFleet

ADDRESS = address(STAKED)


class Operator:
    """Runs the command line in processes of its own, with the key in the environment, as a secret reference says.

    One of another `name` has its own state directory and the same store.
    """

    def __init__(self, fleet: ValidatorFleet, name: str = "") -> None:
        self.fleet = fleet
        state = fleet.settings.state_dir
        self.state_dir = state.with_name(name) if name else state
        if name:
            shutil.copytree(state / "known_hosts", self.state_dir / "known_hosts", dirs_exist_ok=True)

    def command(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        settings = self.fleet.settings
        env = {
            **os.environ, "QTRADE_PROJECT": str(settings.project), "QTRADE_STATE_DIR": str(self.state_dir),
            "QTRADE_STORE": str(settings.store), "STAKED_KEY": json.dumps(list(STAKED)), **environment,
        }  # fmt: skip
        command = [sys.executable, "-m", "qtrade.cli", "identity", *words]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def take(self, host: str, *options: str, **environment: str) -> tuple[int, str]:
        return finish(self.command("take", "--host", host, "--yes", *options, **environment))

    def release(self, host: str) -> None:
        code, said = finish(self.command("release", "--host", host, "--yes"))
        assert code == 0, said

    def claim(self) -> dict[str, Any]:
        return json.loads((self.fleet.settings.store / f"identities/{ADDRESS}.json").read_text())


def finish(child: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return the exit code and what people were told."""
    _, said = child.communicate(timeout=150)
    return child.returncode, said


def signers(fleet: ValidatorFleet) -> set[str]:
    """Return which hosts vote now."""
    before = len(fleet.votes)
    time.sleep(1.5)
    fresh = {vote.process for vote in fleet.votes[before:]}
    return {name for name, host in fleet.hosts.items() if host.is_on and host.process in fresh}
