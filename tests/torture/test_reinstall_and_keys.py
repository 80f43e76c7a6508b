"""A UEFI host that is written anew, and keys that are rotated and revoked on it, in this order.

One file, because one process has to own the host.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from flash.drivers.redfish import RedfishDriver
from flash.inventory import load_host
from flash.jobs import JobBuilder, SignedJob
from flash.trust import load_image
from qtrade.errors import HostError
from qtrade.settings import Settings
from qtrade.store import LocalStore
from qtrade.trust.keyring import Keyring, load_keyring
from tests.e2e.images import extra_layer, publish_variant
from tests.rigs import LabRig, qtrade, qtrade_json

pytestmark = pytest.mark.torture


def test_a_reinstall_keeps_what_the_data_disk_holds(uefi: LabRig, image_010: str) -> None:
    """The OS disk is written anew from the network; the host adopts the cluster that its first boot made."""
    before = uefi.rows()
    assert before, "the first boot wrote no rows"
    with RedfishDriver(load_host(uefi.settings, uefi.name).driver) as driver:
        driver.power_off()
    result = qtrade_json("flash", "--host", uefi.name, "--version", "0.1.0", "--yes")
    assert (result["state"], result["image"], result["evidence"]["door"]) == ("COMMITTED", image_010, "pxe")
    assert uefi.rows() == before


@dataclass
class KeyRoom:
    """A copy of the keys, so that other tests go on with theirs, and the host that these keys flash."""

    rig: LabRig
    settings: Settings

    @property
    def env(self) -> dict[str, str]:
        return {"QTRADE_KEYS_DIR": str(self.settings.keys_dir)}

    @property
    def keyring(self) -> Keyring:
        return load_keyring(self.settings)

    @property
    def build_key(self) -> str:
        return next(iter(self.keyring.trust.build))

    def jobs(self, keyring: Keyring | None = None) -> JobBuilder:
        return JobBuilder(load_host(self.settings, self.rig.name), keyring or self.keyring)

    def boot_keys(self) -> set[str]:
        """Return the ids of the keys that the initramfs takes images of."""
        return {
            name.removesuffix(".pem") for name in self.rig.sh("ls /run/qtrade/system/trust").split() if ".pem" in name
        }

    def held_set(self) -> dict[str, object]:
        return json.loads(self.rig.sh("cat /run/qtrade/system/trust/set.json"))

    def refusal(self, job: SignedJob) -> str:
        """Give the host a job by hand; return the code with which the agent itself refuses it."""
        with pytest.raises(HostError) as caught:
            self.rig.link.run(job)
        return caught.value.details


@pytest.fixture(scope="module")
def keys(uefi: LabRig, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> KeyRoom:
    folder = tmp_path_factory.mktemp("keys") / "keys"
    shutil.copytree(settings.keys_dir, folder)
    return KeyRoom(uefi, replace(settings, keys=folder))


def test_a_rotated_key_takes_effect_at_the_next_flash(keys: KeyRoom, image_010: str, tmp_path: Path) -> None:
    first = keys.build_key
    assert keys.boot_keys() == {first}
    qtrade("keys", "rotate", "build", env=keys.env)
    second = keys.build_key
    assert second != first
    layer = extra_layer(keys.settings, tmp_path, {"usr/share/rotated": "x"})
    made = publish_variant(keys.settings, "0.5.0", top=layer)
    result = qtrade_json("flash", "--host", keys.rig.name, "--version", "0.5.0", "--yes", env=keys.env)
    assert (result["state"], result["image"]) == ("COMMITTED", made.id)
    assert keys.held_set() == keys.keyring.envelope
    # The image before it was signed by the key that was rotated out: it must go on to boot.
    assert keys.boot_keys() == {first, second}
    assert keys.rig.link.status()["previous"] == image_010


def test_a_revoked_key_is_refused_by_the_host_itself(keys: KeyRoom, image_010: str, tmp_path: Path) -> None:
    before, revoked = keys.keyring, keys.build_key
    running = keys.rig.link.status()["image"]
    publish_variant(keys.settings, "0.5.1", top=extra_layer(keys.settings, tmp_path, {"usr/share/bad": "x"}))
    bad = load_image(LocalStore(keys.settings.store), "lab", "0.5.1", before.trust.builders())
    qtrade("keys", "revoke", revoked[:16], env=keys.env)
    done = qtrade("flash", "--host", keys.rig.name, "--version", "0.5.1", "--yes", env=keys.env, check=False)
    assert done.returncode == 6
    assert "which is revoked" in done.stderr

    # By hand, past all checks of the controller: the host refuses what the key signed, on disk or not.
    stage = keys.jobs().stage(bad, source="http://127.0.0.1:1/none", bundle={})
    assert "key-revoked" in keys.refusal(stage)
    assert keys.held_set() == keys.keyring.envelope
    assert bad.image.id not in keys.rig.link.status()["installed"]
    assert "key-revoked" in keys.refusal(keys.jobs().commit(running))
    # What runs now is signed by that key alone, so its file stays until something else is committed.
    assert revoked in keys.boot_keys()
    assert "trust-older" in keys.refusal(keys.jobs(before).simple("drain"))


def test_the_next_commit_drops_the_revoked_key_and_what_it_signed(
    keys: KeyRoom, image_010: str, tmp_path: Path
) -> None:
    trust = keys.keyring.trust
    revoked, running = next(iter(trust.revoked)), keys.rig.link.status()["image"]
    made = publish_variant(keys.settings, "0.5.2", top=extra_layer(keys.settings, tmp_path, {"usr/share/good": "x"}))
    result = qtrade_json("flash", "--host", keys.rig.name, "--version", "0.5.2", "--yes", env=keys.env)
    assert (result["state"], result["image"]) == ("COMMITTED", made.id)
    assert keys.boot_keys() == {*trust.build, *trust.retired.build}
    assert revoked not in keys.boot_keys()
    status = keys.rig.link.status()
    assert (status["default"], status["previous"]) == (made.id, "")
    assert running not in status["installed"]
    assert keys.rig.sh("systemctl is-system-running") == "running"
