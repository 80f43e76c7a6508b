"""One host's life by the installer: a foreign disk adopted, blank data disks formatted, the state given up, the host wiped."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flash.lab import host as lab
from flash.lab.disks import digest_disk
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.rigs import LabRig, make_rig, qtrade, qtrade_json

pytestmark = pytest.mark.torture

_MIB = 1 << 20


@pytest.fixture(scope="module")
def rig(settings: Settings, image_010: str) -> Iterator[LabRig]:
    """A host whose OS disk holds somebody's system, and whose data disk is blank."""
    assert image_010
    rig = make_rig(settings, "e2e-7", Firmware.BIOS)
    paths = rig.host.paths
    with paths.os_disk.open("r+b") as disk:
        disk.seek(510)
        disk.write(b"\x55\xaa")
    size = paths.data.stat().st_size
    with paths.data.open("wb") as disk:
        disk.truncate(size)
    before = rig.ledger_sha256()
    yield rig
    assert rig.ledger_sha256() == before, "the ledger disk was changed"
    lab.down(settings, rig.name, wipe=True)


def digits_of(error: str) -> str:
    return error.split("--adopt ")[1].split(maxsplit=1)[0]


def test_data_disks_with_anything_on_them_are_left_alone(rig: LabRig) -> None:
    with rig.host.paths.data.open("r+b") as disk:
        disk.seek(700 * _MIB)
        disk.write(b"x" * 16 * _MIB)
    before = digest_disk(rig.host.paths.data)
    done = qtrade("hosts", "prepare-disks", "--host", rig.name, "--confirm", rig.name, check=False)
    assert done.returncode == 9
    assert "is not blank" in done.stderr
    assert "Traceback" not in done.stderr
    assert digest_disk(rig.host.paths.data) == before
    with rig.host.paths.data.open("r+b") as disk:
        disk.seek(700 * _MIB)
        disk.write(bytes(16 * _MIB))


def test_blank_data_disks_are_formatted_as_the_manifest_says(rig: LabRig) -> None:
    wrong = qtrade("hosts", "prepare-disks", "--host", rig.name, "--confirm", "e2e-8", check=False)
    assert wrong.returncode != 0
    assert "not the host's name" in wrong.stderr
    done = qtrade_json("hosts", "prepare-disks", "--host", rig.name, "--confirm", rig.name)
    uuid = yaml.safe_load(rig.host.paths.manifest.read_text())["data_disks"][0]["fs_uuid"]
    assert [one["fs_uuid"] for one in done["evidence"]["formatted"]] == [uuid]
    record = json.loads(Path(done["record"]).read_text())
    assert record["kind"] == "prepare_disks"
    with rig.host.paths.os_disk.open("rb") as disk:
        assert disk.read(512)[510:] == b"\x55\xaa", "the OS disk is still somebody else's"


def test_a_foreign_os_disk_is_shown_and_taken_only_as_shown(rig: LabRig) -> None:
    refused = qtrade("flash", "--host", rig.name, "--version", "0.1.0", "--yes", check=False)
    assert refused.returncode == 9
    assert "disk-foreign" in refused.stderr
    for disk in ("QTOS", "QTLEDGER", "QTDATA"):
        assert disk in refused.stderr
    stale = qtrade("flash", "--host", rig.name, "--version", "0.1.0", "--yes", "--adopt", "0" * 16, check=False)
    assert "shown differently" in stale.stderr
    with rig.host.paths.os_disk.open("rb") as disk:
        assert not any(disk.read(510)), "something was written to a disk that nobody gave up"
    digits = digits_of(refused.stderr)
    result = qtrade_json("flash", "--host", rig.name, "--version", "0.1.0", "--yes", "--adopt", digits)
    assert result["state"] == "COMMITTED"


def test_the_state_is_given_up_only_when_asked(rig: LabRig) -> None:
    def identity() -> tuple[str, str]:
        return rig.sh("cat /etc/machine-id"), rig.link.status()["boot_id"]

    first = identity()
    assert qtrade_json("flash", "--host", rig.name, "--version", "0.1.0", "--yes", "--reimage")["state"] == "COMMITTED"
    kept = identity()
    assert kept[0] == first[0]
    assert kept[1] != first[1]
    done = qtrade_json("flash", "--host", rig.name, "--version", "0.1.0", "--yes", "--wipe-state")
    assert done["state"] == "COMMITTED"
    assert identity()[0] != first[0]
    assert rig.rows(), "the data disk lost its rows"


def test_a_decommissioned_host_keeps_its_data_and_nothing_else(rig: LabRig) -> None:
    assert rig.link.status()["state"] == "persistent"
    done = qtrade_json("hosts", "decommission", "--host", rig.name, "--confirm", rig.name)
    assert done["evidence"]["wiped_bytes"] > 1 << 30
    assert all(row["before"] == row["after"] for row in done["evidence"]["protected"])
    assert len(done["evidence"]["protected"]) == 2
    lab.down(rig.settings, rig.name)
    with rig.host.paths.os_disk.open("rb") as disk:
        assert not any(disk.read(_MIB)), "the host could boot"
        disk.seek(-1 << 30, 2)
        assert not any(disk.read(_MIB)), "the state partition was not wiped"
    assert not (rig.settings.state_dir / "known_hosts" / rig.name).exists()
