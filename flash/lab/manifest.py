"""The host manifest of a lab host: what an operator writes by hand for a real one."""

import yaml

from flash.lab.facts import LabFacts, LabPaths, replace_file
from flash.lab.resources import system_path

DATA_MOUNT = "/mnt/data"
SSH_USER = "deploy"
# The rest may be completed by hand, or by `qtrade lab up`, and is left alone.
_OURS = ("address", "ssh", "driver", "netboot", "os_disk", "protected_disks", "data_disks", "console")


def write_manifest(facts: LabFacts, paths: LabPaths) -> None:
    """Write `host.yaml`, or update what the lab itself decides in one that was completed since."""
    made = _render(facts, paths)
    if paths.manifest.is_file():
        kept = yaml.safe_load(paths.manifest.read_text()) or {}
        made = {**kept, **{name: value for name, value in made.items() if name not in kept or name in _OURS}}
    replace_file(paths.manifest, yaml.safe_dump(made, sort_keys=False).encode())


def _render(facts: LabFacts, paths: LabPaths) -> dict[str, object]:
    ports = facts.ports
    return {
        "schema_version": 1,
        "name": facts.name,
        "environment": "development",
        "role": "rpc",
        "recipe": "lab",
        "address": "127.0.0.1",
        "ssh": {"port": ports.ssh, "user": SSH_USER},
        "driver": {
            "kind": "redfish",
            "url": f"http://127.0.0.1:{ports.bmc}",
            "system": system_path(facts),
            "username": facts.bmc_user,
            "password_file": str(paths.password),
        },
        "doors": ["in_place", "pxe"],
        "netboot": {
            "listen": "127.0.0.1",
            "port": ports.netboot,
            "url": facts.guest_netboot_url,
            "bmc_url": f"http://127.0.0.1:{ports.netboot}",
            "trusted_network": True,
            "mac": facts.mac,
        },
        "os_disk": {"serial": facts.os_disk.serial, "size_bytes": facts.os_disk.size_bytes},
        "protected_disks": [{"serial": facts.ledger.serial, "fs_uuid": facts.ledger.fs_uuid}],
        "data_disks": [{"serial": facts.data.serial, "fs_uuid": facts.data.fs_uuid, "mount": DATA_MOUNT}],
        "console": str(paths.console),
        "cmdline": "",
        "config": {},
        "secrets": {},
    }
