"""What a flash refuses on the machine itself, before the first write."""

from collections.abc import Iterator

import pytest
import yaml

from flash.journal import latest
from flash.lab import host as lab
from qtrade.machine.spec import Firmware
from qtrade.settings import Settings
from tests.rigs import LabRig, make_rig, qtrade

pytestmark = pytest.mark.torture


@pytest.fixture
def blank(settings: Settings, image_010: str) -> Iterator[LabRig]:
    """A blank host."""
    assert image_010
    rig = make_rig(settings, "e2e-3", Firmware.BIOS)
    yield rig
    lab.down(settings, rig.name, wipe=True)


def test_identifiers_that_match_no_disk_are_refused_before_any_write(blank: LabRig) -> None:
    document = yaml.safe_load(blank.host.paths.manifest.read_text())
    document["os_disk"]["serial"] = "NOSUCHDISK"
    blank.host.paths.manifest.write_text(yaml.safe_dump(document))
    ledger = blank.ledger_sha256()
    done = qtrade("flash", "--host", blank.name, "--version", "0.1.0", "--yes", check=False)
    assert done.returncode == 9
    assert "disk-not-found" in done.stderr
    assert "NOSUCHDISK" in done.stderr
    assert "Traceback" not in done.stderr
    journal = latest(blank.settings.state_dir / "flashes" / blank.name)
    assert journal is not None
    assert (journal.state, journal.evidence("failed"), journal.evidence("written")) == ("FAILED_SAFE", "WRITING", False)
    assert journal.evidence("written_bytes") is None
    assert blank.ledger_sha256() == ledger
    with blank.host.paths.os_disk.open("rb") as disk:
        assert not any(disk.read(1 << 20)), "something was written to a disk that was not named"
