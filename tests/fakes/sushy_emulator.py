"""A BMC that is not ours: sushy-tools' emulator in a process of its own on the loopback, with its fake driver and a password."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

from tests.fakes.running_host import free_port

UUID, USER, PASSWORD = "8f5f2d0a-1f3c-4d2b-9c55-0a4f6e1c7d10", "admin", "a password of the emulator"
MAC = "52:54:00:01:02:03"


@dataclass(frozen=True)
class RunningEmulator:
    """Where it listens, the file with the password of `USER`, and its log."""

    url: str
    password_file: Path
    log: Path


@contextmanager
def emulator(folder: Path, *, drives: list[dict[str, Any]] | None = None, **more: Any) -> Iterator[RunningEmulator]:
    """Run it until the block ends. `drives` are those of its one system's one controller; `more` are settings of the emulator."""
    folder.mkdir(exist_ok=True)
    for name in ("state", "discs"):
        (folder / name).mkdir()
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "htpasswd").write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    system = {"uuid": UUID, "name": "bm1", "power_state": "Off", "nics": [{"mac": MAC}]}
    if "EXTERNAL_NOTIFICATION_URL" in more:
        system["external_notifier"] = True
    settings = {
        "SUSHY_EMULATOR_STATE_DIR": str(folder / "state"),
        "SUSHY_EMULATOR_AUTH_FILE": str(folder / "htpasswd"),
        "SUSHY_EMULATOR_FAKE_SYSTEMS": [system],
        **(_storage(drives) if drives else {}),
        **more,
    }
    (folder / "conf.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    port, log = free_port(), folder / "emulator.log"
    argv = [Path(sys.executable).parent / "sushy-emulator", "--fake", "-i", "127.0.0.1", "-p", str(port)]
    env = {**os.environ, "TMPDIR": str(folder / "discs"), "NO_PROXY": "127.0.0.1"}
    with log.open("wb") as sink:
        child = subprocess.Popen([*argv, "--config", folder / "conf.py"], stdout=sink, stderr=sink, env=env)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, child, log)
        yield RunningEmulator(url, folder / "password", log)
    finally:
        child.terminate()
        child.wait(20)


def _storage(drives: list[dict[str, Any]]) -> dict[str, Any]:
    names = [drive["Id"] for drive in drives]
    controller = {
        "Id": "1",
        "Name": "Local Storage Controller",
        "StorageControllers": [{"MemberId": "0", "Name": "Contoso RAID", "SpeedGbps": 12}],
        "Drives": names,
    }
    return {"SUSHY_EMULATOR_STORAGE": {UUID: [controller]}, "SUSHY_EMULATOR_DRIVES": {(UUID, "1"): drives}}


def _wait_for(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/redfish/v1/", timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return
