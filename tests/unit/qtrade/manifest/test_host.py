"""What a host manifest must say before anything may write its disk."""

import pytest
from pydantic import ValidationError

from qtrade.manifest.driver import Door
from tests.fakes.examples import make_host

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "disk", [{"serial": "S"}, {"wwid": "W"}, {"size_bytes": 1}, {"pci_path": "P"}, {}, {"serial": "S", "esp_mib": 64}]
)
def test_one_identifier_does_not_name_an_os_disk(disk) -> None:
    with pytest.raises(ValidationError, match="at least two of serial, wwid, size_bytes, pci_path are required"):
        make_host(os_disk=disk)


@pytest.mark.parametrize("disk", [{"serial": "S", "wwid": "W"}, {"size_bytes": 1, "pci_path": "P"}])
def test_any_two_identifiers_do(disk) -> None:
    assert make_host(os_disk=disk).os_disk.system_mib == 8192


@pytest.mark.parametrize("kept", ["protected_disks", "data_disks"])
@pytest.mark.parametrize("identifier", ["serial", "wwid"])
def test_the_os_disk_cannot_be_a_disk_that_is_kept(kept, identifier) -> None:
    disk = {identifier: "X", **({"mount": "/data"} if kept == "data_disks" else {})}
    with pytest.raises(ValidationError, match=rf"os_disk.{identifier} X is also a protected or data disk"):
        make_host(os_disk={identifier: "X", "size_bytes": 1}, **{kept: [disk]})


def test_identifiers_that_are_left_out_do_not_clash() -> None:
    host = make_host(os_disk={"size_bytes": 1, "pci_path": "P"}, protected_disks=[{"serial": "S"}, {"wwid": "W"}])
    assert len(host.protected_disks) == 2


@pytest.mark.parametrize("disk", [{"size_bytes": 1}, {"fs_uuid": "U"}, {"pci_path": "P", "size_bytes": 2}])
def test_a_protected_disk_is_known_by_serial_or_wwid(disk) -> None:
    with pytest.raises(ValidationError, match="serial or wwid is required"):
        make_host(protected_disks=[disk])


def test_the_pxe_door_needs_netboot() -> None:
    with pytest.raises(ValidationError, match="door pxe needs netboot"):
        make_host(netboot=None)
    assert make_host(netboot=None, doors=["in_place"]).doors == (Door.IN_PLACE,)


@pytest.mark.parametrize(
    "change",
    [
        {"doors": []},
        {"doors": ["window"]},
        {"name": "../x"},
        {"cmdline": "a\nb"},
        {"data_disks": [{"serial": "S", "mount": "/a b"}]},
        {"netboot": {"port": 80, "url": "http://x", "mac": "52-54-00-00-00-01"}},
        {"password": "hunter2"},
    ],
)
def test_other_nonsense_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        make_host(**change)
