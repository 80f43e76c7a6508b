"""Hosts that OpenStack Ironic keeps: power, the deployment that boots our installer, and Ironic's own protection of a node.

Ironic boots the disc of the flash through its deploy interface `ramdisk`, which writes nothing: our agent does the writing, with its own
binding of the disk and its own proof. docs/adr/0022-ironic.md says why.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from flash.drivers.abilities import PowerState
from flash.drivers.ironic_api import account_of, asking, connect
from flash.drivers.ironic_node import (
    ENDS,
    Verb,
    arming_patch,
    disks_patch,
    enrolment,
    has_ended,
    is_inspected_from_outside,
    next_verb,
    resting_patch,
    root_device,
    skipped_disks,
)
from flash.drivers.provider import POWER_S
from flash.drivers.waiting import Waiting
from qtrade.errors import HostError, NotFound, Refused
from qtrade.manifest import Host
from qtrade.manifest.driver import IronicDriver as Access
from qtrade.manifest.host import Netboot

_POWER = {"power on": PowerState.ON, "power off": PowerState.OFF}
# Conductors hold a node for moments too, to look at its power.
_LOCK_S = 60.0
# As long as Ironic itself waits for a call-back.
_STATE_S = 1800.0
_REASON = "qtrade changes how the host boots"
_PROTECTED = "flashed by qtrade; its other disks hold data"


class IronicDriver:
    """One node. Connects at its first call. `waiting` says how often to ask; `state_s` and `lock_s` for how long, for tests."""

    def __init__(
        self,
        access: Access,
        read_secret: Callable[[str], str],
        waiting: Waiting,
        *,
        state_s: float = _STATE_S,
        lock_s: float = _LOCK_S,
    ) -> None:
        self._access = access
        self._read_secret = read_secret
        self._waiting = waiting
        self._state_s, self._lock_s = state_s, lock_s
        self._connection: Any = None
        self._asking = partial(asking, account_of(access))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def power_state(self) -> PowerState:
        """Return what Ironic saw last; its conductors look every two minutes, and at every change that goes through Ironic."""
        return _POWER.get(str(self._node().power_state), PowerState.UNKNOWN)

    def power_on(self) -> None:
        """Switch on, and wait until Ironic saw it."""
        self._switch("power on")

    def power_off(self) -> None:
        """Cut the power, and wait until Ironic saw it."""
        self._switch("power off")

    def power_cycle(self) -> None:
        """Cut the power, see that it is off, and switch on."""
        self.power_off()
        self.power_on()

    def lock(self) -> None:
        """Let Ironic refuse to rebuild, undeploy or delete the node."""
        with self._asking("protect the node"):
            self._baremetal.update_node(self._node().id, is_protected=True, protected_reason=_PROTECTED)

    def unlock(self) -> None:
        """Take the protection off; nothing happens when there is none."""
        if self.is_locked():
            with self._asking("take the protection off the node"):
                self._baremetal.update_node(self._node().id, is_protected=False)

    def is_locked(self) -> bool:
        """Say whether Ironic protects the node. One that is not enrolled yet is not."""
        with suppress(NotFound):
            return bool(self._node().is_protected)
        return False

    def check_deploy(self, host: Host) -> dict[str, Any]:
        """Say how Ironic knows the host. Raises `Refused` for a node in maintenance, locked, in others' use, or in a state of theirs."""
        root_device(host)
        try:
            node = self._node()
        except NotFound:
            enrolment(self._access, host, None)
            return {"ironic_node": None, "provision_state": "not enrolled"}
        self._refuse_others(node)
        node = self._unlocked_node()
        next_verb(node.provision_state)
        return {"ironic_node": node.id, "provision_state": node.provision_state, "power": node.power_state}

    def deploy(self, host: Host, disc_url: str) -> dict[str, Any]:
        """Have Ironic boot the disc. What Ironic then calls active is no evidence of anything but that it switched the host on."""
        node = self._find_or_enrol(host)
        self._refuse_others(node)
        self._tell_disks(host)
        passed = [node.provision_state]
        while (verb := next_verb(passed[-1])) is not Verb.DEPLOY:
            passed.append(self._ask(verb))
            if verb is Verb.MANAGE and is_inspected_from_outside(self._node().inspect_interface):
                passed.append(self._ask(Verb.INSPECT))
        with self._changing_boot():
            self._patch("name the disc to boot", arming_patch(disc_url))
        with self._asking("see that the node can be deployed"):
            self._baremetal.validate_node(self._node().id, required=("boot", "deploy", "power"))
        passed.append(self._ask(verb))
        facts = self._node().properties
        inspected = {name: facts[name] for name in ("cpus", "memory_mb", "local_gb", "cpu_arch") if name in facts}
        return {"ironic_node": node.id, "provision_states": passed, "inspected": inspected}

    def boot_from_disk(self) -> None:
        """Take the disc away, set the disk as what boots, and leave Ironic's conductors and users nothing to boot or to write."""
        node = self._unlocked_node()
        with self._changing_boot():
            self._patch("take the disc back", resting_patch())
        with self._asking("let the host boot from its disk"):
            known = self._baremetal.get_node_supported_boot_devices(node.id)["supported_boot_devices"]
            # What knows no disk boots from it unless it is told otherwise.
            if "disk" in known:
                self._baremetal.set_node_boot_device(node.id, "disk", persistent=True)
        self._take_disc(node)
        if self._unlocked_node().provision_state == "active":
            self.lock()

    @property
    def _baremetal(self) -> Any:
        if self._connection is None:
            reference = self._access.password
            self._connection = connect(self._access, None if reference is None else self._read_secret(reference))
        # openstacksdk asks the service for its versions here.
        with self._asking("find the service"):
            return self._connection.baremetal

    def _node(self) -> Any:
        baremetal = self._baremetal
        with self._asking("show the node"):
            return baremetal.get_node(self._access.node)

    def _find_or_enrol(self, host: Host) -> Any:
        with suppress(NotFound):
            return self._node()
        enrol = self._access.enrol
        secret = None if enrol is None or enrol.password is None else self._read_secret(enrol.password)
        wanted = enrolment(self._access, host, secret)
        with self._asking("enrol the node"):
            node = self._baremetal.create_node(**wanted)
        if isinstance(host.netboot, Netboot):
            # A MAC that another node has is somebody else's host: Ironic refuses it.
            with self._asking(f"note the network card {host.netboot.mac}"):
                self._baremetal.create_port(node_id=node.id, address=host.netboot.mac)
        return self._node()

    def _refuse_others(self, node: Any) -> None:
        if node.is_maintenance:
            raise Refused(
                f"Ironic's node {self._access.node} is in maintenance: {node.maintenance_reason or 'nobody said why'}",
                resolution="ask who put it there; `baremetal node maintenance unset` once they are done",
            )
        if node.instance_id:
            raise Refused(
                f"Ironic's node {self._access.node} carries instance {node.instance_id} of another service",
                resolution="a host belongs to qtrade or to Nova, not to both; release it there, or correct driver.node",
            )

    def _unlocked_node(self) -> Any:
        """Return the node once no conductor holds it. Raises `Refused` when one goes on to."""
        node = self._node()
        if node.reservation is None:
            return node
        try:
            self._waiting.until(
                lambda: self._node().reservation, lambda by: by is None, what=self._what("lock"), within_s=self._lock_s
            )
        except HostError as error:
            raise Refused(
                f"Ironic's node {self._access.node} is locked by conductor {node.reservation}",
                resolution="see what it does there: `baremetal node show`; once that has ended, run the same command again",
            ) from error
        return self._node()

    def _tell_disks(self, host: Host) -> None:
        node = self._unlocked_node()
        self._patch("say which disks are whose", disks_patch(node.properties or {}, host))
        node = self._node()
        told = {name: (node.properties or {}).get(name) for name in ("root_device", "skip_block_devices")}
        wanted = {"root_device": root_device(host), "skip_block_devices": skipped_disks(host)}
        if node.is_automated_clean_enabled is not False or told != wanted:
            raise HostError(
                f"Ironic's node {self._access.node} does not keep what it was told of its disks",
                details=f"automated_clean {node.is_automated_clean_enabled}, {told}",
                resolution="look at the node in Ironic: nothing was deployed",
            )

    def _ask(self, verb: Verb) -> str:
        """Ask for a step, and wait for its end. Raises `HostError` with Ironic's own words when that is a bad one, or too late."""
        node = self._unlocked_node()
        with self._asking(f"{verb.name.lower()} the node"):
            # The state has changed before Ironic answers (conductor/manager.py, do_node_deploy), so none from before is read below.
            self._baremetal.set_node_provision_state(node.id, str(verb))
        state = self._waiting.until(
            lambda: str(self._node().provision_state),
            lambda now: has_ended(verb, now),
            what=self._what(verb.name.lower()),
            within_s=self._state_s,
        )
        if state != ENDS[verb]:
            raise HostError(
                f"{self._what(verb.name.lower())}: {state}",
                details=str(self._node().last_error or "")[:600],
                resolution="mend what Ironic says; the same command goes on from there. Nothing was written",
            )
        return state

    @contextmanager
    def _changing_boot(self) -> Iterator[None]:
        """Let interfaces be changed: Ironic allows it for free nodes, and else in maintenance, which ends with the block."""
        node = self._unlocked_node()
        needs = node.provision_state not in ("enroll", "manageable", "available")
        if not needs:
            yield
            return
        with self._asking("begin to change how the host boots"):
            self._baremetal.set_node_maintenance(node.id, reason=_REASON)
        try:
            yield
        finally:
            with self._asking("end the maintenance of the node"):
                self._baremetal.unset_node_maintenance(node.id)

    def _patch(self, what: str, patch: list[dict[str, Any]]) -> None:
        with self._asking(what):
            self._baremetal.patch_node(self._node().id, patch)

    def _take_disc(self, node: Any) -> None:
        from openstack.exceptions import NotSupported  # noqa: PLC0415 - an extra, and slow to import

        if "virtual-media" not in str(node.boot_interface):
            return
        with self._asking("take the disc out"), suppress(NotSupported):
            self._baremetal.detach_vmedia_from_node(node.id, device_types=["cdrom"])

    def _switch(self, wanted: str) -> None:
        node = self._unlocked_node()
        with self._asking(f"switch the host ({wanted})"):
            self._baremetal.set_node_power_state(node.id, wanted)

        def read() -> tuple[str, str | None]:
            now = self._node()
            return str(now.power_state), now.target_power_state

        try:
            self._waiting.until(read, lambda now: now == (wanted, None), what=self._what(wanted), within_s=POWER_S)
        except HostError as error:
            error.details = str(self._node().last_error or error.details)[:600]
            raise

    def _what(self, what: str) -> str:
        return f"Ironic's node {self._access.node}: {what}"
