"""A host that runs the layers of the lab's image, as far as SSH can tell: sshd in a chroot of them, on a port of 127.0.0.1."""

import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bake.chamber import Chamber, Command, run_in_chamber
from bake.components.take import take_components
from bake.layer import _inside as bake_place
from flash.ansible_inventory import recipe_variables
from qtrade.process import CLEAN_PATH
from qtrade.settings import Settings
from tests.fakes.examples import host_fields
from tests.fakes.lab_layers import bake_recipe

NAME = "live-1"
TOOLS = Path(sys.executable).parent
_RECAP = re.compile(r"^(\S+)\s*: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
_CONFIG = "run/qtrade/state/config/current/ssh/authorized_keys"


@dataclass(frozen=True)
class Played:
    """A playbook that ran: its exit code, what it said, and how many tasks changed something."""

    code: int
    text: str
    changed: int

    @classmethod
    def read(cls, code: int, text: str) -> "Played":
        found = _RECAP.findall(text)
        return cls(code, text, sum(int(item[2]) for item in found) if found else -1)


@dataclass
class RunningHost:
    """The host, and the playbooks against it."""

    settings: Settings
    chamber: Chamber
    roles: tuple[str, ...]
    port: int

    @property
    def environment(self) -> dict[str, str]:
        project, state = self.settings.project, self.settings.state_dir
        return {
            "PATH": f"{TOOLS}:{CLEAN_PATH}",
            "HOME": str(state),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(project / "ansible/ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(state / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",  # nothing outlives the host, and no socket's path can be too long
            "QTRADE_PROJECT": str(project),
            "QTRADE_STATE_DIR": str(state),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def play(self, role: str, *options: str, playbook: Path | None = None) -> Played:
        """Run the role's playbook over the inventory that is made of manifests."""
        path = playbook or Path(f"playbooks/{role}.yml")
        done = subprocess.run(
            [TOOLS / "ansible-playbook", "-i", "inventory", "--limit", NAME, *options, path],
            cwd=self.settings.project / "ansible",
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Played.read(done.returncode, done.stdout + done.stderr)

    def snapshot(self) -> dict[str, Any]:
        """Return everything that was ever written to the host's root, with times: a write shows, whatever it wrote."""
        found = {}
        for path in sorted(self.chamber.upper.rglob("*")):
            facts = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path.relative_to(self.chamber.upper))] = (facts.st_mode, facts.st_uid, facts.st_mtime_ns, content)
        return found


@contextmanager
def run_lab_host(real: Settings, folder: Path, drift: str) -> Iterator[RunningHost]:
    """Run a host of the lab's layers, which are baked if they are not there, until the end of the `with`.

    Before it answers, the shell text `drift` is run at the root of the host.
    """
    host = _prepare(real, folder)
    done = threading.Event()
    said: list[str] = []

    def live() -> None:
        try:
            run_in_chamber(host.chamber, env=host.environment, timeout_s=1200, on_line=said.append)
        finally:
            done.set()

    host.chamber = Chamber(host.chamber.folder, host.chamber.layers, (_sshd(host, drift),), host.chamber.binds)
    thread = threading.Thread(target=live)
    thread.start()
    try:
        while not _answers(host.port):
            assert not done.wait(0.2), "\n".join(said[-60:])
        yield host
    finally:
        (folder / "stop").touch()
        thread.join(30)


def _prepare(real: Settings, folder: Path) -> RunningHost:
    baked = bake_recipe(real, "lab")
    recipe, store = baked.recipe, baked.store
    variables = recipe_variables(real, recipe)
    places = {k: v for layer in variables["qtrade_layers"].values() for k, v in layer["components"].items()}
    taken = take_components(real, store, baked.components, places, folder / "components")
    assert places == {name: bake_place(name, path) for name, path in taken.items()}, "the inventory names other places"
    binds = {str(path): places[name] for name, path in taken.items()}
    chamber = Chamber(
        folder / "chamber", tuple(store.open_blob(item.digest) for item in baked.records.values()), (), binds
    )
    chamber.folder.mkdir()
    settings = Settings(real.project, folder / "state", folder / "state/store")
    host = RunningHost(settings, chamber, tuple(layer.role for layer in recipe.layers), free_port())
    _write_manifest(host)
    return host


def _write_manifest(host: RunningHost) -> None:
    """Write what an operator and a first flash would have left: the host's manifest, keys, and the pinned key of the host."""
    state = host.settings.state_dir
    for name in ("lab/live-1", "known_hosts", "ansible"):
        (state / name).mkdir(parents=True)
    for key in ("login", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", state / key], check=True)
    words = (state / "host.pub").read_text().split()
    (state / "known_hosts" / NAME).write_text(f"{NAME} {words[0]} {words[1]}\n")
    ssh = {"port": host.port, "identity_file": str(state / "login")}
    secret = {"secrets": {"datadog_api_key": "vault:secrets/development.yml#key"}}
    fields = host_fields(name=NAME, recipe="lab", address="127.0.0.1", ssh=ssh, **secret)
    (state / "lab" / NAME / "host.yaml").write_text(yaml.safe_dump(fields))


def _sshd(host: RunningHost, drift: str) -> Command:
    """Return what stands in for the boot: config generation, host key, sshd. It ends when `stop` appears."""
    root, state, stop = host.chamber.root, host.settings.state_dir, host.chamber.folder.parent / "stop"
    # The host has no components; and its own sshd lists no port, which is the last thing that a command line may set.
    lines = [
        f"cd {shlex.quote(str(root))}",
        "for place in run/qtrade/components/*; do umount $place; done; rm -r run/qtrade/components",
        f"mkdir -p run/sshd run/qtrade/state/host {_CONFIG}",
        f"cp {state}/host run/qtrade/state/host/ssh_host_ed25519_key",
        f"cp {state}/login.pub {_CONFIG}/operator",
        drift,
        f"chroot . /usr/sbin/sshd -D -e -o ListenAddress=127.0.0.1 -p {host.port} &",
        f"until [ -e {stop} ]; do sleep 0.2; done",
    ]
    return Command(("sh", "-euc", "\n".join(lines)), has_network=True)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody has now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        time.sleep(0.1)
        return False
