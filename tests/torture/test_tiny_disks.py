"""Disks of the tiny guest: the right one among shuffled NVMe and SCSI ones, all others refused by the kernel, and one that is full."""

import itertools
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flash.lab.disks import digest_disk
from qtrade.errors import HostError
from qtrade.machine.spec import Disk, DiskInterface
from qtrade.settings import Settings
from qtrade.toolsroot import open_tools
from tests.torture import tiny_grub
from tests.torture.disk_check import read_partitions
from tests.torture.power_cuts import check_health
from tests.torture.tiny_guest import LEDGER, MIB, OS_DISK, SIZE_BYTES, TinyGuest, tiny_guest
from tests.torture.tiny_image import TinyImages, make_images

pytestmark = pytest.mark.torture

_ATTACK = Path(__file__).with_name("tiny_attack")
_DHCP = Path(__file__).parents[2] / "bake/initramfs/installer/scripts/udhcpc"
_WWN = "5000c500a1b2c3d4"
_NVME, _SCSI = DiskInterface.NVME, DiskInterface.SCSI
# By name: how the OS disk and the ledger are attached, and with which serial numbers. One that has none is known by its WWID.
CASES = {
    "NVMe, the ledger is SCSI": ((_NVME, OS_DISK), (_SCSI, LEDGER)),
    "SCSI without a serial number, the ledger is NVMe": ((_SCSI, ""), (_NVME, LEDGER)),
    "NVMe, the ledger is SCSI without a serial number": ((_NVME, OS_DISK), (_SCSI, "")),
}


@pytest.fixture(scope="module")
def images(settings: Settings, image_010: str, tmp_path_factory: pytest.TempPathFactory) -> TinyImages:
    assert image_010
    return make_images(settings, tmp_path_factory.mktemp("images"), "AB")


@pytest.fixture
def guest(settings: Settings, images: TinyImages, tmp_path: Path) -> Iterator[TinyGuest]:
    with tiny_guest(settings, images, tmp_path) as guest:
        yield guest


def identify(serial: str) -> dict[str, Any]:
    return {"serial": serial} if serial else {"wwid": f"naa.{_WWN}"}


def make_attacker(guest: TinyGuest, settings: Settings, folder: Path) -> Path:
    """Return the installer with a program in it that writes to other disks while the agent works; DHCP starts it."""
    tree = folder / "attack"
    (tree / "scripts").mkdir(parents=True)
    shutil.copyfile(_ATTACK, tree / "tiny-attack")
    first, rest = _DHCP.read_text().split("\n", 1)
    (tree / "scripts/udhcpc").write_text(f'{first}\n/tiny-attack "$1"\n{rest}')
    for path in (tree / "tiny-attack", tree / "scripts/udhcpc"):
        path.chmod(0o755)
    installer = guest.images.versions["A"].image.installer
    return tiny_grub.add_to_installer(
        open_tools(settings), guest.find_blob(installer.digest) or folder, tree, folder / "attacker"
    )


@pytest.mark.parametrize("case", CASES)
def test_the_right_disk_is_found_and_the_kernel_refuses_every_other(
    guest: TinyGuest, settings: Settings, tmp_path: Path, case: str, seed: int
) -> None:
    """A twin has the OS disk's size, a victim shows that the attack is real: it succeeds where nothing protects it yet."""
    (os_kind, os_serial), (ledger_kind, ledger_serial) = CASES[case]
    twin, victim = tmp_path / "twin.raw", tmp_path / "victim.raw"
    for path, size in ((twin, SIZE_BYTES), (victim, 8 * MIB)):
        with path.open("wb") as file:
            file.truncate(size)
    wwns = {serial: None if serial else _WWN for serial in (os_serial, ledger_serial)}
    attached = [
        Disk(guest.os_disk, os_serial, interface=os_kind, wwn=wwns[os_serial], boot_index=1),
        Disk(guest.ledger, ledger_serial, interface=ledger_kind, wwn=wwns[ledger_serial]),
        Disk(twin, "TWIN", interface=_NVME),
        Disk(victim, "VICTIM", interface=_SCSI),
    ]
    random.Random(f"{seed} {case}").shuffle(attached)
    guest.describe(
        os_disk={**identify(os_serial), "size_bytes": SIZE_BYTES, "system_mib": 512, "esp_mib": 40},
        protected_disks=[identify(ledger_serial)],
    )
    before = {path: digest_disk(path) for path in (guest.ledger, twin)}
    guest.initrd = make_attacker(guest, settings, tmp_path)
    job = guest.install_job("A")
    guest.start(installer=job, disks=tuple(attached))
    report = guest.wait_installed(job)
    said = guest.console.read_text(errors="replace")
    guest.kill()
    tries = dict(re.findall(r"attack: (\S+ ro=\d) (\w+)", said))
    reasons = re.findall(r"attack: .* refused (.*)", said)
    # The victim before and after, the ledger and the twin after. What Linux calls them depends on the order.
    assert sorted(tries.values()) == ["refused", "refused", "refused", "written"], said[-3000:]
    assert [name.split()[1] for name, done in tries.items() if done == "written"] == ["ro=0"]
    assert all(re.search(r"not permitted|[Dd]enied|[Rr]ead-only", reason) for reason in reasons), reasons
    assert len({name.split()[0] for name, done in tries.items() if done == "refused"}) == 3
    assert {path: digest_disk(path) for path in before} == before
    assert victim.read_bytes()[512:] == bytes(8 * MIB - 512)
    assert [row["before"] == row["after"] for row in report["protected"]] == [True]
    guest.start(disks=tuple(attached))
    check_health(guest, guest.hello(), {"A"})


def test_a_full_system_partition_refuses_an_image_with_figures_and_boots(
    guest: TinyGuest, settings: Settings, tmp_path: Path
) -> None:
    tools = open_tools(settings)
    guest.install("A")
    system = next(one for one in read_partitions(guest.os_disk) if one.label == "qtrade-system")
    view = f"{guest.os_disk}?offset={system.start}"

    def files() -> list[str]:
        """Return the names of what is on the partition, folder by folder."""
        shown = [tools.run("debugfs", "-R", f"ls -p /{name}", view).stdout for name in ("layers", "boot", "images")]
        return [line.split("/")[5] for line in itertools.chain.from_iterable(one.splitlines() for one in shown) if line]

    def free_bytes() -> int:
        found = re.search(r"^Free blocks:\s+(\d+)", tools.run("debugfs", "-R", "stats -h", view).stdout, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 4096

    filler = tmp_path / "filler"
    with filler.open("wb") as file:
        file.write(b"x" * (free_bytes() - MIB))
    tools.run("debugfs", "-w", "-R", f"write {filler} filler", view)
    assert 0 < free_bytes() < 2 * MIB, "it is not full"
    before = files()
    guest.start()
    check_health(guest, guest.hello(), {"A"})
    with pytest.raises(HostError) as caught:
        guest.run(guest.stage("B"))
    said = f"{caught.value.brief} {caught.value.details}"
    assert "system-full" in said
    assert len(re.findall(r"\d{5,} bytes", said)) >= 1, said
    guest.kill()
    assert files() == before, "something of the image was left behind"
    guest.start()
    status = guest.hello()
    check_health(guest, status, {"A"})
    assert (status["installed"], status["once"]) == ([guest.image_id("A")], "")
    guest.kill()
    tools.run("debugfs", "-w", "-R", "rm filler", view)
    guest.start()
    guest.hello()
    guest.run(guest.stage("B"))
