"""Lab hosts as their users want them: made, with an SSH key of their own and a manifest that is complete."""

import secrets
from collections.abc import Callable
from pathlib import Path

import yaml

from flash.drivers.redfish import RedfishDriver
from flash.lab import host as lab
from flash.lab.facts import replace_file
from flash.lab.host import LabHost
from flash.secrets import VAULT_PASSWORD
from flash.secrets.references import LAB_VAULT
from qtrade import process
from qtrade.errors import UsageError, choose_from
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from qtrade.ssh import public_half
from qtrade.toolsroot import open_tools

_NETWORK = ("10.0.2.0/24", "fd42:716c:6162::/64")
# Of manifests/ids.yaml: the validator stand-in's user.
_SOL = 420
# By what each is shaped like.
_SECRETS: dict[str, Callable[[], str]] = {
    "datadog_api_key": lambda: secrets.token_hex(16),
    "client_token": lambda: secrets.token_urlsafe(24),
    "geyser_x_token": lambda: secrets.token_urlsafe(24),
}


def up(settings: Settings, name: str, *, firmware: str, memory_mib: int, owner_pid: int | None = None) -> LabHost:
    """Make lab host `name` and start its BMC; complete its manifest. Raises the errors of `flash.lab.host.up`."""
    try:
        kind = Firmware(firmware)
    except ValueError as error:
        raise UsageError(f"there is no firmware {firmware}", resolution=choose_from(firmware, Firmware)) from error
    identity = ensure_ssh_key(settings)
    made = lab.up(settings, open_tools(settings), name, firmware=kind, memory_mib=memory_mib, owner_pid=owner_pid)
    complete_manifest(made, identity, ensure_secrets(settings))
    return made


def power_on(made: LabHost) -> None:
    """Switch a lab host on, through its BMC."""
    with RedfishDriver(made.access) as driver:
        driver.power_on()


def ensure_ssh_key(settings: Settings) -> Path:
    """Return the private key that deploys to lab hosts log in with, made first if there is none."""
    path = settings.keys_dir / "ssh_ed25519"
    if not path.is_file():
        settings.keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "qtrade-lab", "-f", path])
    return path


def ensure_secrets(settings: Settings) -> Path:
    """Return the vault file with the lab's secrets, made first if there is none. They are random and open nothing.

    A vault of an older lab gets those that it lacks; what it has stays.
    """
    path, password = settings.keys_dir / LAB_VAULT, settings.keys_dir / VAULT_PASSWORD
    tool, locked_by = process.beside_python("ansible-vault"), ("--vault-password-file", str(password))
    values: dict[str, str] = {}
    if path.is_file():
        values = yaml.safe_load(process.run([tool, "view", *locked_by, path]).stdout)
    else:
        replace_file(password, secrets.token_urlsafe(32).encode(), mode=0o600)
    missing = {name: make() for name, make in _SECRETS.items() if name not in values}
    if missing:
        # Through stdin, so that the values are on disk only encrypted.
        document = yaml.safe_dump({**values, **missing}).encode()
        process.run([tool, "encrypt", *locked_by, "--output", str(path), "-"], stdin=document)
    return path


def complete_manifest(made: LabHost, identity: Path, vault: Path) -> None:
    """Fill in what the lab's operator would: who may log in, the network, the mounts. What is there already stays."""
    manifest = yaml.safe_load(made.paths.manifest.read_text())
    manifest["ssh"]["identity_file"] = str(identity)
    manifest["os_disk"].setdefault("system_mib", 3072)
    manifest["os_disk"].setdefault("esp_mib", 64)
    manifest["config"] = {**_config(made, identity), **(manifest.get("config") or {})}
    references = {name: f"vault:{vault}#{name}" for name in _SECRETS}
    manifest["secrets"] = {**references, **(manifest.get("secrets") or {})}
    replace_file(made.paths.manifest, yaml.safe_dump(manifest, sort_keys=False).encode())


def _config(made: LabHost, identity: Path) -> dict[str, object]:
    public_key = public_half(identity).read_text().strip()
    own = {"type": "tmpfs", "what": "tmpfs", "options": f"size=64m,mode=0750,uid={_SOL},gid={_SOL}"}
    return {
        "bare_metal_mounts": [
            {"what": f"UUID={made.facts.data.fs_uuid}", "where": "/mnt/data", "type": "ext4", "options": "noatime"},
            *[{**own, "where": f"/mnt/{name}"} for name in ("ledger", "accounts", "snapshots")],
        ],
        "bare_metal_mac": made.facts.mac,
        "bare_metal_addresses": ["10.0.2.15/24", "fd42:716c:6162::15/64"],
        "bare_metal_gateways": ["10.0.2.2", "fd42:716c:6162::2"],
        "bare_metal_dns": ["10.0.2.3"],
        "bare_metal_ssh_keys": {user: [public_key] for user in ("deploy", "operator", "readonly")},
        # Its cluster is itself: what compares slots runs, and finds no lag.
        "agave_reference_rpcs": ["http://127.0.0.1:8899"],
        "ufw_solana_ssh_sources": list(_NETWORK),
        "ufw_solana_egress_allow": list(_NETWORK),
    }
