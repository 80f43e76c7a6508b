"""openstacksdk's view of one Ironic node, in memory: states move as Ironic's do, and every call is written down.

The real service is in tests/torture; this one shows the order of calls in milliseconds.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import requests
from openstack.exceptions import HttpException, NotFoundException

_LEADS = {
    "manage": ("verifying", "manageable"),
    "inspect": ("inspecting", "manageable"),
    "provide": ("cleaning", "available"),
    "active": ("deploying", "active"),
    "deleted": ("deleting", "available"),
}


def no_answer(kind: type[HttpException], status: int, words: str) -> HttpException:
    """Return what openstacksdk raises for an answer that says no."""
    response = requests.Response()
    response.status_code = status
    return kind(words, response=response, details=words)


@dataclass
class FakeIronic:
    """One node, or none yet. `fails` are verbs that end badly, and where; `stuck` one that never ends."""

    node: SimpleNamespace | None = None
    fails: dict[str, str] = field(default_factory=dict)
    stuck: str = ""
    forgets_disks: bool = False
    devices: tuple[str, ...] = ("pxe", "disk", "cdrom")
    calls: list[str] = field(default_factory=list)
    _pending: str | None = None

    @property
    def baremetal(self) -> "FakeIronic":
        return self

    def close(self) -> None:
        self.calls.append("close")

    def get_node(self, name: str) -> SimpleNamespace:
        if self.node is None:
            raise no_answer(NotFoundException, 404, f"no node {name}")
        shown = SimpleNamespace(**vars(self.node))
        if self._pending is not None:
            self.node.provision_state, self._pending = self._pending, None
        if self.node.target_power_state is not None:
            self.node.power_state, self.node.target_power_state = self.node.target_power_state, None
        return shown

    def create_node(self, **fields: Any) -> SimpleNamespace:
        self.calls.append("create")
        self.node = make_node("enroll", **fields)
        return self.node

    def create_port(self, *, node_id: str, address: str) -> None:
        self.calls.append(f"port {address} of {node_id}")

    def update_node(self, _: str, **fields: Any) -> None:
        self.calls.append(f"update {fields}")
        vars(self._known()).update(fields)

    def patch_node(self, _: str, patch: list[dict[str, Any]]) -> None:
        self.calls.append("patch " + " ".join(one["path"] for one in patch))
        node = self._known()
        for one in patch:
            first, *rest = one["path"].strip("/").split("/")
            if first == "automated_clean":
                node.is_automated_clean_enabled = one["value"]
            elif not rest:
                setattr(node, first, one["value"])
            elif not self.forgets_disks:
                getattr(node, first)[rest[0]] = one["value"]

    def set_node_provision_state(self, _: str, verb: str) -> None:
        self.calls.append(verb)
        node = self._known()
        node.provision_state, good = _LEADS[verb]
        if verb != self.stuck:
            self._pending = self.fails.get(verb, good)

    def set_node_maintenance(self, _: str, *, reason: str) -> None:
        self.calls.append("maintenance on")
        self._known().is_maintenance = bool(reason)

    def unset_node_maintenance(self, _: str) -> None:
        self.calls.append("maintenance off")
        self._known().is_maintenance = False

    def validate_node(self, _: str, *, required: tuple[str, ...]) -> None:
        self.calls.append(f"validate {','.join(required)}")

    def get_node_supported_boot_devices(self, _: str) -> dict[str, Any]:
        return {"supported_boot_devices": list(self.devices)}

    def set_node_boot_device(self, _: str, device: str, *, persistent: bool) -> None:
        self.calls.append(f"boot {device}{' always' if persistent else ''}")

    def detach_vmedia_from_node(self, _: str, *, device_types: list[str]) -> None:
        self.calls.append(f"detach {','.join(device_types)}")

    def set_node_power_state(self, _: str, wanted: str) -> None:
        self.calls.append(wanted)
        self._known().target_power_state = wanted

    def _known(self) -> SimpleNamespace:
        assert self.node is not None
        return self.node


def make_node(state: str, **fields: Any) -> SimpleNamespace:
    """Return a node as openstacksdk shows it."""
    usual: dict[str, Any] = {
        "id": "uuid-1",
        "provision_state": state,
        "power_state": "power on",
        "target_power_state": None,
        "is_maintenance": False,
        "maintenance_reason": None,
        "is_protected": False,
        "instance_id": None,
        "instance_info": {},
        "reservation": None,
        "properties": {},
        "last_error": None,
        "inspect_interface": "redfish",
        "boot_interface": "redfish-virtual-media",
        "deploy_interface": "custom-agent",
        "is_automated_clean_enabled": None,
    }
    return SimpleNamespace(**{**usual, **fields})
