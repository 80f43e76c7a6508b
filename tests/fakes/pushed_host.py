"""A host that takes pushes: the real agent behind a real sshd, with its partitions as folders and a systemd that notes what it is told.

Its network is what its current config says: whoever comes gets through while `network/10-host.network` says that the host is `up`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from flash.agent import adopt, trust
from flash.ssh import pin_host_key
from qtrade.manifest import Image, RoleInputs
from qtrade.settings import Settings, load_settings
from qtrade.store import open_store
from qtrade.trust.keyring import ensure_keyring
from tests.fakes.projects import publish_image, write_project
from tests.fakes.ssh_server import SshServer, serve_ssh

PROJECT = Path(__file__).resolve().parents[2]
CHOOSE = PROJECT / "bake/initramfs/os/scripts/qtrade"
INPUTS = {
    "files": [
        {
            "path": "network/10-host.network",
            "units": [{"name": "systemd-networkd.service", "action": "reload"}],
            "access": True,
            "template": "network {{ app_network }}\n",
        },
        {"path": "app/app.env", "units": [{"name": "app.service", "action": "reload"}], "template": "A={{ app_a }}\n"},
        {"path": "db/db.conf", "units": [{"name": "db.service", "action": "restart"}], "template": "B={{ app_b }}\n"},
        {"path": "fstab", "reboot": True, "template": "{{ app_mount }}\n"},
    ],
    "values": {
        "app_network": {"type": "str", "default": "up"},
        "app_a": {"type": "int", "default": 1},
        "app_b": {"type": "int", "default": 1},
        "app_mount": {"type": "str", "default": "none"},
    },
    "secrets": [
        {"name": "app_token", "units": [{"name": "db.service", "action": "restart"}]},
        {"name": "app_key", "units": []},
        {"name": "app_code", "units": []},
    ],
}
# Runs in the server's own mounts: what an installed host has where the agent looks.
_SETUP = """
mkdir /run/qtrade
mount --bind {folder}/run /run/qtrade
mount --bind {folder}/hostname /etc/hostname
mount --bind {folder}/boot_id /proc/sys/kernel/random/boot_id
mount -t overlay none -o lowerdir={folder}/bin:/usr/bin /usr/bin
mount -t overlay none -o lowerdir={folder}/lib:/usr/lib /usr/lib
"""
_PROGRAMS = {
    "sudo": 'shift\nexec "$@"\n',
    "qtrade-agent": 'PYTHONPATH=/usr/lib/qtrade exec {python} -P -B -s -m agent "$@"\n',
    # A service runs at once and in the foreground, a timer's later and whatever becomes of whoever asked.
    "systemd-run": """
delay= unit=
while :; do
    case "$1" in
    --setenv=*) export "${{1#--setenv=}}" ;;
    --on-active=*) delay="${{1#--on-active=}}" ;;
    --unit=*) unit="${{1#--unit=}}" ;;
    --*) ;;
    *) break ;;
    esac
    shift
done
[ -n "$delay" ] || exec "$@"
setsid sh -c 'echo $$ >"$0"; sleep "$1"; rm "$0"; shift; exec "$@"' {folder}/timers/"$unit" "$delay" "$@" \
    </dev/null >>{folder}/timers.log 2>&1 &
until [ -e {folder}/timers/"$unit" ]; do sleep 0.01; done
""",
    "systemctl": """
echo "$*" >>{folder}/systemctl.log
case "$1" in
show) echo ActiveState=active ;;
stop) for timer in {folder}/timers/*; do [ ! -e "$timer" ] || {{ kill -- -$(cat "$timer"); rm -f "$timer"; }}; done ;;
restart | reload-or-restart) [ ! -e {folder}/hooks/"$2" ] || . {folder}/hooks/"$2" ;;
esac
""",
    "journalctl": 'echo "journal: $*"\n',
    "systemd-creds": """
verb="$1" from="$3" to="$4"
case "$verb" in
encrypt) {{ od -An -N16 -tx1 /dev/urandom; base64; }} >"$to" ;;
decrypt) tail -n +2 "$from" | base64 -d ;;
esac
""",
}


@dataclass
class PushedHost:
    """The host `rpc-1` of a project of its own."""

    settings: Settings
    folder: Path
    image: Image
    server: SshServer
    wire: "Wire"
    name: str = "rpc-1"
    boots: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "run/state/config"

    @property
    def current(self) -> str:
        return str((self.config / "current").readlink())

    @property
    def settled(self) -> str:
        return (self.config / "by-image" / self.image.id).readlink().name

    def read(self, path: str) -> str:
        return (self.config / "current" / path).read_text()

    def acts(self) -> list[str]:
        """Return what units were told since the last call."""
        log = self.folder / "systemctl.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if line.split()[0] in ("restart", "reload-or-restart")]

    def write_manifest(self, *, secrets: dict[str, str] | None = None, **config: Any) -> None:
        ssh = {"identity_file": str(self.server.identity), "port": self.wire.port, "user": "root"}
        more = {"secrets": secrets} if secrets else {}
        write_project(self.settings, host={"address": "127.0.0.1", "ssh": ssh, "config": config, **more})

    def hook(self, unit: str, script: str) -> None:
        """Let a unit run a shell text when it is told to restart or reload."""
        (self.folder / "hooks" / unit).write_text(script)

    def timers(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "timers").iterdir())

    def reboot(self) -> str:
        """Lose power and boot again; returns what the initramfs says of the config."""
        self.server.stop()
        for timer in (self.folder / "timers").iterdir():
            with suppress(ProcessLookupError):
                os.killpg(int(timer.read_text()), signal.SIGKILL)
            timer.unlink()
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.folder / "run/booted.json").unlink(missing_ok=True)
        commands = f"""
            . {CHOOSE}
            QTRADE={self.folder}/run image={self.image.id} config=none
            qtrade_note() {{ echo "$*" >&2; }}
            qtrade_alarm() {{ echo "$*" >&2; }}
            qtrade_choose_config
            qtrade_choose_secrets
            echo "$config"
        """
        said = subprocess.run(["sh", "-uc", commands], check=True, capture_output=True, text=True).stdout.strip()
        self.server.start()
        return said


@contextmanager
def run_pushed_host(settings: Settings, folder: Path) -> Iterator[PushedHost]:
    """Run a host of `settings`, an empty project, until the block ends; it has no config yet. Needs root."""
    image = publish_image(settings, inputs={"app": RoleInputs.model_validate(INPUTS)})
    _write_host(settings, folder, image)
    with serve_ssh(load_settings(), folder / "sshd", setup=folder / "setup") as server:
        host_key = (server.folder / "host_key.pub").read_text()
        pin_host_key(settings, "rpc-1", host_key)
        with Wire(server.port, folder / "run/state/config/current/network/10-host.network") as wire:
            host = PushedHost(settings, folder, image, server, wire)
            host.write_manifest()
            try:
                yield host
            finally:
                for timer in host.timers():
                    with suppress(ProcessLookupError, FileNotFoundError):
                        os.killpg(int((folder / "timers" / timer).read_text()), signal.SIGKILL)


def _write_host(settings: Settings, folder: Path, image: Image) -> None:
    state, system = folder / "run/state", folder / "run/system"
    for path in (folder / "timers", folder / "hooks", folder / "bin", folder / "lib/qtrade/inputs.d"):
        path.mkdir(parents=True)
    for name in ("config/by-image", "host", "agent", "credstore", "var"):
        (state / name).mkdir(parents=True)
    (system / "images" / image.id).mkdir(parents=True)
    (folder / "run/rw/upper").mkdir(parents=True)
    published = open_store(settings).read(image.name, image.version)
    parts = system / "images" / image.id
    (parts / "image.json").write_text(image.to_json())
    (parts / "list").write_text(image.list_text())
    (parts / "list.sig").write_bytes(ensure_keyring(settings).signer("build").sign(image.list_text().encode()))
    (parts / "entry.cfg").touch()
    assert published
    held = trust.open_pinned(ensure_keyring(settings).envelope, ensure_keyring(settings).root_id)
    trust.write_held(system, held)
    adopt.add_boot_keys(system, held)
    (system / "trust/policy.json").write_text('{"environment": "development", "schema_version": 1}')
    (folder / "run/boot").write_text(f"image={image.id}\nverified=verity\nstate=persistent\nconfig=none\n")
    (folder / "hostname").write_text("rpc-1\n")
    (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
    (folder / "lib/qtrade/inputs.d/app.json").write_text(json.dumps(INPUTS))
    shutil.copytree(PROJECT / "flash/agent", folder / "lib/qtrade/agent", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in _PROGRAMS.items():
        path = folder / "bin" / name
        path.write_text("#!/bin/sh\n" + text.format(folder=folder, python=sys.executable))
        path.chmod(0o755)
    (folder / "setup").write_text(_SETUP.format(folder=folder))


class Wire:
    """The way to the host: TCP from `port` to the server. `cuts` says that what lives ends too when the network goes down."""

    def __init__(self, to: int, network: Path) -> None:
        self.to, self.network = to, network
        self.cuts = False
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    @property
    def is_up(self) -> bool:
        try:
            return self.network.read_text().startswith("network up")
        except OSError:
            return True

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_up:
                near.close()
                continue
            self.connections += 1
            try:
                far = socket.create_connection(("127.0.0.1", self.to), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.cuts and not self.is_up:
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def wait_until(holds: Any, within_s: float = 20) -> None:
    """Wait until `holds()` is true; fails when it does not become so."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
