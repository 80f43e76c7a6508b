"""Facts of lab hosts, and the manifest that is made of them."""

from pathlib import Path

import pytest
import yaml

from flash.lab.facts import LabPaths, LabPorts, lab_paths, load_facts, new_facts, replace_file, save_facts
from flash.lab.manifest import write_manifest
from qtrade.errors import BadInput, NotFound
from qtrade.machine.spec import Firmware
from qtrade.manifest.host import Host
from qtrade.settings import Settings

pytestmark = pytest.mark.unit

FACTS = new_facts("lab-1", firmware=Firmware.BIOS, memory_mib=512, cpus=2, ports=LabPorts(4022, 4080, 4081))


def test_ids_depend_on_the_name_only() -> None:
    again = new_facts("lab-1", firmware=Firmware.UEFI, memory_mib=1, cpus=1, ports=LabPorts(1, 2, 3))
    other = new_facts("lab-2", firmware=Firmware.BIOS, memory_mib=512, cpus=2, ports=LabPorts(4022, 4080, 4081))
    assert (again.mac, again.data, again.ledger) == (FACTS.mac, FACTS.data, FACTS.ledger)
    assert (FACTS.os_disk.serial, FACTS.ledger.serial, FACTS.data.serial) == ("QTOS01", "QTLEDGER1", "QTDATA1")
    assert not {FACTS.mac, FACTS.data.fs_uuid, FACTS.os_disk.serial} & {
        other.mac,
        other.data.fs_uuid,
        other.os_disk.serial,
    }


def test_facts_round_trip(tmp_path: Path) -> None:
    paths = LabPaths(tmp_path / "lab-1")
    with pytest.raises(NotFound, match="no lab host lab-1"):
        load_facts(paths)
    paths.folder.mkdir()
    save_facts(paths, FACTS)
    assert load_facts(paths) == FACTS
    paths.facts.write_text('{"name": "lab-1"}')
    with pytest.raises(BadInput, match="damaged"):
        load_facts(paths)


@pytest.mark.parametrize("name", ["", "..", "a/b", "Lab", "1a", "x" * 40])
def test_names_cannot_leave_the_state_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        lab_paths(Settings(project=tmp_path, state_dir=tmp_path, store=tmp_path), name)


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(mode=0o644)
    replace_file(path, b"x", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600


def test_manifest_is_a_valid_host(tmp_path: Path) -> None:
    paths = LabPaths(tmp_path)
    write_manifest(FACTS, paths)
    host = Host.model_validate(yaml.safe_load(paths.manifest.read_text()))
    assert host.os_disk.serial == "QTOS01"
    assert host.netboot is not None
    assert (host.netboot.url, host.netboot.mac) == ("http://10.0.2.2:4081", FACTS.mac)


def test_manifest_keeps_what_others_filled_in(tmp_path: Path) -> None:
    paths = LabPaths(tmp_path)
    write_manifest(FACTS, paths)
    filled = {**yaml.safe_load(paths.manifest.read_text()), "config": {"agave_rpc_bind": "0.0.0.0"}, "address": "x"}
    paths.manifest.write_text(yaml.safe_dump(filled))
    write_manifest(FACTS, paths)
    again = yaml.safe_load(paths.manifest.read_text())
    assert (again["config"], again["address"]) == ({"agave_rpc_bind": "0.0.0.0"}, "127.0.0.1")
