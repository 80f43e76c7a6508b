"""What Ironic is told of a host, and what its words mean to us: pure functions.

Ironic's own agent, where somebody has it run, writes the one disk that all root device hints fit, or the smallest one where there are no
hints, and skips the disks of `skip_block_devices` when it cleans or looks for a disk (ironic-python-agent, hardware.py and
device_hints.py). qtrade's installer needs neither; both are told all the same, so that whatever runs there knows whose the disks are.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from qtrade.errors import BadInput, Refused
from qtrade.manifest import Host
from qtrade.manifest.driver import IronicDriver
from qtrade.manifest.host import DiskIdentity

Json = dict[str, Any]
# The interface that boots what we name and writes nothing, and the one for the rest of the time: it writes nothing without steps that its
# caller brings along, and a conductor that takes the node over sets it to boot from its disk. `ramdisk` would insert the disc again.
BOOTS_OURS, AT_REST = "ramdisk", "custom-agent"
# Inspection that asks the BMC; others boot Ironic's agent on the host.
_INSPECTS_FROM_OUTSIDE = {"redfish": "redfish", "idrac": "idrac-redfish", "fake-hardware": "fake"}
_GIB = 1 << 30
_NAA_BASE = 16


class Verb(StrEnum):
    """What Ironic can be asked to do with a node."""

    MANAGE = "manage"
    INSPECT = "inspect"
    PROVIDE = "provide"
    DEPLOY = "active"
    UNDEPLOY = "deleted"


class Standing(StrEnum):
    """What a provision state means to a flash."""

    READY = "can be deployed"
    UNDER_WAY = "is being worked on"
    OTHERS = "belongs to something else"


_NEXT: dict[str, Verb] = {
    "enroll": Verb.MANAGE,
    "manageable": Verb.PROVIDE,
    "inspect failed": Verb.MANAGE,
    "available": Verb.DEPLOY,
    # Not `rebuild`: Ironic 39 fails at that for whatever has a boot_iso (conductor/deployments.py, start_deploy: `auto_lessee`). Nothing is
    # cleaned on the way, as `automated_clean` of the node itself is off by then.
    "active": Verb.UNDEPLOY,
    "deploy failed": Verb.DEPLOY,
}
_UNDER_WAY = ("verifying", "inspecting", "inspect wait", "deploying", "wait call-back", "deploy hold")
_FAILURES = ("enroll", "inspect failed", "deploy failed", "error")
# Where each verb leads when all goes well.
ENDS: dict[Verb, str] = {
    Verb.MANAGE: "manageable",
    Verb.INSPECT: "manageable",
    Verb.PROVIDE: "available",
    Verb.DEPLOY: "active",
    Verb.UNDEPLOY: "available",
}


def standing(state: str) -> Standing:
    """Return what a provision state means. What nobody has listed belongs to something else: cleaning, rescue, deletion."""
    if state in _NEXT:
        return Standing.READY
    return Standing.UNDER_WAY if state in _UNDER_WAY else Standing.OTHERS


def next_verb(state: str) -> Verb:
    """Return the next step on the way to a deployment. Raises `Refused` in a state that no such way leads from."""
    if state not in _NEXT:
        raise Refused(
            f"Ironic's node is {state}: it {standing(state)}",
            resolution="see who works on it; cleaning, rescue and deletion are theirs to end. Then run the same command again",
        )
    return _NEXT[state]


def has_ended(verb: Verb, state: str) -> bool:
    """Say whether a verb has come to its end in this state, a good one or a bad one."""
    return state == ENDS[verb] or state in _FAILURES


def root_device(host: Host) -> Json:
    """Return the root device hints of a host's OS disk. Raises `BadInput` for one that has no serial and no wwid.

    Sizes are whole GiB to Ironic, and what its agent compares is not rounded: one that is not whole is a lower limit.
    """
    disk = host.os_disk
    hints: Json = _names(disk)
    if not hints:
        raise BadInput(
            f"host {host.name}: os_disk has neither serial nor wwid, and Ironic knows disks by nothing else of a host manifest",
            resolution="add os_disk.serial or os_disk.wwid; `head /sys/block/*/device/serial /sys/block/*/wwid` shows them on the host",
        )
    if disk.size_bytes is not None and disk.size_bytes >= _GIB:
        whole, rest = divmod(disk.size_bytes, _GIB)
        hints["size"] = f">= {whole}" if rest else f"== {whole}"
    return hints


def skipped_disks(host: Host) -> list[Json]:
    """Return the disks that Ironic must leave alone: one entry for each name that a protected or data disk has, so that one fits."""
    kept = (*host.protected_disks, *host.data_disks)
    entries = [{name: value} for disk in kept for name, value in _names(disk).items()]
    return [entry for number, entry in enumerate(entries) if entry not in entries[:number]]


def _names(disk: DiskIdentity) -> Json:
    names: Json = {} if disk.serial is None else {"serial": f"s== {disk.serial}"}
    if disk.wwid is not None:
        names.update(_world_wide_name(disk.wwid))
    return names


def _world_wide_name(wwid: str) -> Json:
    """Return the hint for what Linux calls a wwid; udev, whom Ironic's agent asks, writes NAA names in another way."""
    kind, _, number = wwid.partition(".")
    if kind == "naa" and len(number) > _NAA_BASE:
        return {"wwn_with_extension": f"s== 0x{number}"}
    if kind == "naa":
        return {"wwn": f"s== 0x{number}"}
    # `t10.` names hold spaces and are no world wide names to udev.
    return {} if kind == "t10" else {"wwn": f"s== {wwid}"}


def disks_patch(properties: Mapping[str, Any], host: Host) -> list[Json]:
    """Return the JSON patch that makes a node's properties say which disks are whose, and that nothing cleans it."""
    wanted = {"root_device": root_device(host), "skip_block_devices": skipped_disks(host)}
    changed = [
        {"op": "add", "path": f"/properties/{name}", "value": value}
        for name, value in wanted.items()
        if properties.get(name) != value
    ]
    return [*changed, {"op": "add", "path": "/automated_clean", "value": False}]


def arming_patch(disc_url: str) -> list[Json]:
    """Return the JSON patch of a node that is to boot the disc at `disc_url`, which its BMC fetches by itself."""
    info = {"boot_iso": disc_url, "ramdisk_image_download_source": "http"}
    return [
        {"op": "add", "path": "/deploy_interface", "value": BOOTS_OURS},
        {"op": "add", "path": "/instance_info", "value": info},
    ]


def resting_patch() -> list[Json]:
    """Return the JSON patch of a node that boots from its disk, whatever Ironic's conductors do."""
    return [
        {"op": "add", "path": "/instance_info", "value": {}},
        {"op": "add", "path": "/deploy_interface", "value": AT_REST},
    ]


def enrolment(access: IronicDriver, host: Host, password: str | None) -> Json:
    """Return the node that a host is enrolled as. Raises `BadInput` where the manifest does not say how."""
    enrol = access.enrol
    if enrol is None:
        raise BadInput(
            f"host {host.name}: Ironic knows no node {access.node}, and driver.enrol does not say how to enrol it",
            resolution="correct driver.node, or say in driver.enrol how Ironic reaches the host's BMC",
        )
    info: Json = {}
    if enrol.address is not None:
        info = {
            "redfish_address": enrol.address,
            "redfish_system_id": enrol.system,
            "redfish_username": enrol.username,
            "redfish_password": password,
            "redfish_verify_ca": enrol.verify_tls,
        }
    return {
        "name": access.node,
        "driver": enrol.hardware,
        "driver_info": info,
        "boot_interface": enrol.boot_interface,
        "deploy_interface": AT_REST,
        "inspect_interface": _INSPECTS_FROM_OUTSIDE.get(enrol.hardware, "no-inspect"),
        "is_automated_clean_enabled": False,
        "properties": {"root_device": root_device(host), "skip_block_devices": skipped_disks(host)},
    }


def is_inspected_from_outside(interface: str | None) -> bool:
    """Say whether an inspect interface asks the BMC only."""
    return interface in _INSPECTS_FROM_OUTSIDE.values()
