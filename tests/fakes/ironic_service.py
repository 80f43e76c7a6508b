"""A real Ironic on the loopback: API and conductor in one process, SQLite, no message queue, no Keystone; nothing of it is a fake."""

import hashlib
import os
import signal
import sqlite3
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
import openstack

from qtrade.settings import Settings
from tests.fakes.running_host import free_port

_REQUIREMENTS = Path(__file__).parents[1] / "torture/ironic-requirements.txt"
_START_S = 120
USER, PASSWORD = "qtrade", "a password of the tests"
# Automated cleaning stays on, as it is by default: whoever does not switch it off for the node gets it.
_CONFIG = """
[DEFAULT]
auth_strategy = {auth}
http_basic_auth_user_file = {folder}/htpasswd
rpc_transport = none
host = conductor-1
my_ip = 127.0.0.1
debug = true
log_options = false
tempdir = {folder}/tmp
enabled_hardware_types = fake-hardware,redfish
enabled_boot_interfaces = fake,ipxe,redfish-virtual-media,redfish-https
enabled_deploy_interfaces = ramdisk,custom-agent,direct,fake
enabled_inspect_interfaces = fake,redfish,no-inspect
enabled_management_interfaces = fake,redfish
enabled_power_interfaces = fake,redfish
enabled_network_interfaces = noop
enabled_bios_interfaces = no-bios
enabled_firmware_interfaces = no-firmware
enabled_raid_interfaces = no-raid
enabled_vendor_interfaces = no-vendor
[api]
host_ip = 127.0.0.1
port = {port}
[database]
connection = sqlite:///{folder}/ironic.sqlite
[dhcp]
dhcp_provider = none
[conductor]
automated_clean = true
deploy_callback_timeout = 3
check_provision_state_interval = 1
node_locked_retry_attempts = 1
deploy_kernel = http://127.0.0.1:{port}/no-kernel
deploy_ramdisk = http://127.0.0.1:{port}/no-ramdisk
[service_catalog]
endpoint_override = http://127.0.0.1:{port}
[fake]
management_delay = {delay_s}
[redfish]
connection_attempts = 1
connection_retry_interval = 1
[oslo_concurrency]
lock_path = {folder}/locks
[pxe]
tftp_root = {folder}/tftp
tftp_master_path = {folder}/tftp-master
images_path = {folder}/images
instance_master_path = {folder}/instance-master
[deploy]
http_root = {folder}/http
http_url = http://127.0.0.1:{port}
"""


def ensure_ironic(settings: Settings) -> Path:
    """Return the folder of programs of an Ironic that was installed as the requirements say, installed first if it is not there."""
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    place = settings.state_dir / "ironic-venv"
    mark = place / "installed"
    if not mark.is_file() or mark.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        lines = [line for line in _REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
        pip = [place / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, lines[0]], check=True)
        subprocess.run([*pip, "--no-deps", *lines[1:]], check=True)
        mark.write_text(wanted)
    return place / "bin"


@dataclass(frozen=True)
class RunningIronic:
    """Where it listens, and what it wrote."""

    url: str
    folder: Path

    @property
    def log(self) -> str:
        """Return what API and conductor said so far."""
        return (self.folder / "ironic.log").read_text(errors="replace")

    def hold(self, node: str, conductor: str | None) -> None:
        """Have the node held by a conductor, or by none: in the database, as one does that works on it, or died doing so."""
        with sqlite3.connect(self.folder / "ironic.sqlite", timeout=30) as database:
            done = database.execute("update nodes set reservation = ? where name = ?", (conductor, node))
            assert done.rowcount == 1, "there is no such node"
        database.close()


@contextmanager
def ironic(settings: Settings, folder: Path, *, auth: str = "noauth", delay_s: int = 0) -> Iterator[RunningIronic]:
    """Run Ironic until the block ends. `delay_s` is how long its fake hardware takes to set a boot device."""
    programs = ensure_ironic(settings)
    for name in ("tmp", "locks", "tftp", "tftp-master", "images", "instance-master", "http"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    port, config = free_port(), folder / "ironic.conf"
    config.write_text(_CONFIG.format(auth=auth, folder=folder, port=port, delay_s=delay_s))
    log = folder / "ironic.log"
    with log.open("wb") as sink:
        subprocess.run(
            [programs / "ironic-dbsync", "--config-file", config, "create_schema"], check=True, stdout=sink, stderr=sink
        )
        child = subprocess.Popen([programs / "ironic", "--config-file", config], stdout=sink, stderr=sink)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, child, log)
        yield RunningIronic(url, folder)
    finally:
        _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End Ironic, whose worker ends with it."""
    workers = _children(child.pid)
    child.terminate()
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pid in workers:
        for _ in range(100):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.1)
        else:
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_for(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        assert child.poll() is None, f"Ironic ended: {log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(f"{url}/v1/", timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise AssertionError(f"Ironic does not answer: {log.read_text()[-2000:]}")


@contextmanager
def as_operator(service: RunningIronic) -> Iterator[Any]:
    """Give Ironic's bare-metal API as its own operator sees it."""
    connection = openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_type="none",
        auth={"endpoint": service.url},
        baremetal_endpoint_override=service.url,
    )
    try:
        yield connection.baremetal
    finally:
        connection.close()
