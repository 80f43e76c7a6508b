"""A host as folders, which the real agent observes: layers, the upper directory, root, /proc, the state partition.

What only programs can tell (systemd, the packet filter, the ESP) comes from `programs`, in the words of the real ones.
"""

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash.agent import observe as agent
from flash.agent.host import Host
from flash.config import render_bundle
from flash.inventory import load_environment, load_host
from flash.ssh import pin_host_key
from qtrade.manifest import Image, RoleInputs
from qtrade.manifest.image import canonical_json
from qtrade.settings import Settings
from tests.fakes.projects import publish_image, write_project

NAME = "rpc-1"
KERNEL = "6.12.1"
STATUS = "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\nVersion: 13\n"
DATA_UUID = "0a0a0a0a-1111-4222-8333-444444444444"
PASSWD = "root:x:0:0:root:/root:/bin/bash\noperator:x:1000:1000:Operator:/var/home/operator:/bin/bash\n"
GROUP = "root:x:0:\noperator:x:1000:\nssh-users:x:500:operator\n"
SHADOW = "root:*:20000:0:99999:7:::\noperator:!:20000:0:99999:7:::\n"
RULES = "*filter\n:INPUT DROP [12:340]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"
SAVED = f"{RULES}# next\n{RULES}# next\ntable ip filter\ntable ip6 filter\n"
TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
SSH_LISTENS = (
    "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
)
INTERFACES = {"schema_version": 1, "role": "app", "interfaces": [
    {"name": "api", "transport": ["tcp"], "port": 8899, "bind": "127.0.0.1", "exposure": "allow-list"},
    {"name": "admin", "transport": ["tcp"], "port": 9000, "bind": "127.0.0.1", "exposure": "loopback"},
    {"name": "gossip", "transport": ["udp"], "first": 8000, "end": 8030, "bind": "", "exposure": "public"},
]}  # fmt: skip
INPUTS = {"files": [
    {"path": "hostname", "template": "{{ host }}\n"},
    {"path": "fstab", "template": f"overlay / overlay defaults 0 0\nUUID={DATA_UUID} /srv/ledger ext4 noatime,nofail 0 2\n"},
    {"path": "ssh/authorized_keys/operator", "template": "ssh-ed25519 AAAA operator\n"},
], "values": {}, "secrets": [{"name": "api_key"}]}  # fmt: skip
# How `systemctl list-units` shows a unit, and whether its conditions held.
RUNS, STOPPED = ("loaded", "active", "running", "yes"), ("loaded", "inactive", "dead", "yes")


def make_private_key(seed: bytes) -> tuple[str, str]:
    """Return an OpenSSH private key and its public half (`ssh-ed25519 AAAA…`), as ssh-keygen writes them."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.from_private_bytes(seed * 32)
    form, encoding = serialization.PrivateFormat.OpenSSH, serialization.Encoding
    text = key.private_bytes(encoding.PEM, form, serialization.NoEncryption()).decode()
    public = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return text, public


@dataclass
class DriftingHost:
    """The host rpc-1 below `folder`, which runs `image` and was pushed its config."""

    settings: Settings
    folder: Path
    image: Image
    units: dict[str, tuple[str, str, str, str]] = field(default_factory=dict)
    saved: str = SAVED
    boot: dict[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> Host:
        root = self.folder / "root"
        return Host(
            run=self.folder / "run", inputs=root / "usr/lib/qtrade/inputs.d", etc=root / "etc", proc=self.folder / "proc",
            sys=self.folder / "sys", dev=self.folder / "dev", mnt=self.folder / "mnt", root=root,
        )  # fmt: skip

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file of the running root, as a person does: it lands in the upper directory."""
        for top in (self.folder / "root", self.folder / "run/rw/upper"):
            place = top / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.write_text(text)
            place.chmod(mode)

    def observe(self) -> str:
        """Return what the agent prints."""
        return json.dumps(agent.observe(self.paths))

    def proc(self, path: str, text: str) -> None:
        place = self.folder / "proc" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def run_program(self, *args: str, **_: Any) -> str:
        """Stand in for systemctl and the packet filter's programs."""
        if args[:2] == ("systemctl", "show"):
            return "\n\n".join(f"Id={name}\nConditionResult={self.units[name][3]}" for name in args[4:])
        if args[0] == "systemctl":
            return "".join(
                f"{name} {load} {active} {sub} A unit\n" for name, (load, active, sub, _) in self.units.items()
            )
        return self.saved if args[0] == "sh" else SAVED


def make_host(settings: Settings, folder: Path, patch: Callable[[str, Any], None]) -> DriftingHost:
    """Make a project with the host rpc-1, and the host without any drift. `patch` sets an attribute by its dotted name for a test."""
    write_project(
        settings,
        host={
            "data_disks": [{"wwid": "eui.01", "fs_uuid": DATA_UUID, "mount": "/srv/ledger"}],
            "protected_disks": [], "driver": {"kind": "ssh"}, "doors": ["in_place"], "netboot": None,
        },
    )  # fmt: skip
    # The files are the test's user's, who may be anybody.
    own = {"owner": os.getuid(), "group": os.getgid()}
    inputs = {**INPUTS, "files": [{**one, **own} for one in INPUTS["files"]]}
    image = publish_image(settings, kernel_release=KERNEL, inputs={"app": RoleInputs.model_validate(inputs)})
    host = DriftingHost(settings, folder, image)
    host.boot = {"default": image.id, "previous": "", "once": "", "failed_boots": 0}
    _write_image(host)
    _write_state(host)
    _write_kernel(host)
    for name in ("chrony.service", "logrotate.timer", "once.service"):
        host.units[name] = RUNS
    sealed = {layer.digest: layer.verity for layer in image.layers}
    patch("flash.agent.verity.measure", lambda path: sealed[path.stem])
    patch("flash.agent.unit_states.run", host.run_program)
    patch("flash.agent.ruleset.run", host.run_program)
    patch("flash.agent.observe._read_boot", lambda _: host.boot)
    return host


def _write_image(host: DriftingHost) -> None:
    base, app = (host.folder / f"run/layers/{number}" for number in (10, 11))
    files = {
        "etc/passwd": PASSWD, "etc/group": GROUP, "etc/shadow": SHADOW, "etc/sudoers": "root ALL=(ALL) ALL\n",
        "etc/motd": "welcome\n", "var/lib/dpkg/status": STATUS,
        "etc/sysctl.d/10-app.conf": "vm.swappiness = 1\nnet.core.rmem_max=1000\n", "usr/lib/sysctl.d/10-app.conf": "vm.swappiness = 60\n",
        "usr/share/qtrade/interfaces.d/app.json": json.dumps(INTERFACES), "usr/lib/qtrade/ufw_solana/boot.v4.rules": "",
        "usr/lib/qtrade/ufw_solana/boot.v6.rules": "", "usr/lib/systemd/system/chrony.service": "[Service]\n",
        "usr/lib/systemd/system/once.service": "[Service]\nType=oneshot\n",
        "usr/lib/systemd/system/logrotate.timer": "[Timer]\n",
    }  # fmt: skip
    for path, text in files.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(text)
    for name, wants in (
        ("chrony.service", "multi-user"),
        ("once.service", "multi-user"),
        ("logrotate.timer", "timers"),
    ):
        link = app / f"etc/systemd/system/{wants}.target.wants/{name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/usr/lib/systemd/system/{name}")
    (app / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    for layer in (base, app):
        shutil.copytree(layer, host.folder / "root", symlinks=True, dirs_exist_ok=True)
    (host.folder / "root/etc/hostname").write_text(f"{NAME}\n")
    (host.folder / "run/rw/upper").mkdir(parents=True)
    system = host.folder / "run/system"
    entry = f"if linux /boot/{host.image.kernel.digest} {_cmdline(host.image)}; then\n"
    for path, text in {
        "list": host.image.list_text(),
        "image.json": host.image.to_json(),
        "entry.cfg": f"{entry}  boot\nfi\n",
    }.items():
        place = system / "images" / host.image.id / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    for layer_blob in host.image.layers:
        place = system / "layers" / f"{layer_blob.digest}.erofs"
        place.parent.mkdir(exist_ok=True)
        place.write_text("blob")
    facts = {"image": host.image.id, "verified": "verity", "state": "persistent", "config": "whole"}
    (host.folder / "run/boot").write_text("".join(f"{name}={value}\n" for name, value in facts.items()))


def _cmdline(image: Image) -> str:
    own = f"boot=qtrade ro panic=10 qtrade.image={image.id} qtrade.system=PARTUUID=s-1 qtrade.state=PARTUUID=s-2"
    return f"{own} {image.cmdline}"


def _write_state(host: DriftingHost) -> None:
    state = host.folder / "run/state"
    for name in ("var", "config/by-image", "host", "credstore", "agent"):
        (state / name).mkdir(parents=True)
    push(host)
    private, public = make_private_key(b"k")
    (state / "host/ssh_host_ed25519_key").write_text(private)
    (state / "host/ssh_host_ed25519_key.pub").write_text(f"{public}\n")
    pin_host_key(host.settings, NAME, public)


def push(host: DriftingHost, generation: int = 1) -> None:
    """Lay the config of the manifests on the state partition, as a push does."""
    manifest = load_host(host.settings, NAME)
    bundle = render_bundle(manifest, load_environment(host.settings, manifest), host.image)
    config = host.folder / "run/state/config"
    folder = config / str(generation)
    payload = bundle.payload(generation)
    for one in payload["files"]:
        place = folder / one["path"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(base64.b64decode(one["content"]))
        place.chmod(int(one["mode"], 8))
    encoded = base64.b64encode(canonical_json(payload).encode()).decode()
    (folder / ".bundle.json").write_text(json.dumps({"payload": encoded, "payloadType": "", "signatures": []}))
    for link, target in (
        (config / "current", str(generation)),
        (config / f"by-image/{host.image.id}", f"../{generation}"),
    ):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _write_kernel(host: DriftingHost) -> None:
    layers = "".join(
        f"4{number} 1 0:4{number} / /run/qtrade/layers/{10 + number} ro - erofs /run/qtrade/system/layers/{layer.digest}.erofs ro\n"
        for number, layer in enumerate(host.image.layers)
    )
    host.proc(
        "1/mountinfo",
        "1 0 0:20 / / rw - overlay overlay rw\n2 1 8:3 / /run/qtrade/system ro - ext4 /dev/vda3 ro\n"
        "3 1 8:4 / /run/qtrade/state rw - ext4 /dev/vda4 rw\n4 1 8:4 /var /var rw - ext4 /dev/vda4 rw\n"
        f"5 1 0:5 / /proc rw - proc proc rw\n6 1 8:17 / /srv/ledger rw,noatime - ext4 /dev/vdb rw\n{layers}",
    )
    for path, target in ((f"dev/disk/by-uuid/{DATA_UUID}", "../../vdb"), ("sys/dev/block/8:17", "../../devices/vdb")):
        (host.folder / path).parent.mkdir(parents=True)
        (host.folder / path).symlink_to(target)
    for path, text in {
        "cmdline": f"BOOT_IMAGE=/boot/k {_cmdline(host.image)}\n", "net/tcp": TCP + SSH_LISTENS, "net/tcp6": TCP, "net/udp": TCP,
        "net/udp6": TCP, "swaps": "Filename Type Size Used Priority\n", "uptime": "100.0 90.0\n", "sys/kernel/osrelease": f"{KERNEL}\n",
        "sys/kernel/random/boot_id": "b-1\n", "sys/vm/swappiness": "1\n", "sys/net/core/rmem_max": "1000\n",
        "sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
    }.items():  # fmt: skip
        host.proc(path, text)
