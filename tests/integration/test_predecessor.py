"""What an installed disk says against a job of the installer, read from real filesystems: an older image, a controller that was cut off.

The kernel of a test machine may know no FAT: the ESP is ext4 here, all else is as on a host.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flash.agent import __main__ as agent
from flash.agent import admission, boot, images, install, installing, partition, predecessor, protect
from flash.agent import trust as agent_trust
from flash.agent.errors import AgentError
from flash.agent.job import PAYLOAD_TYPE, parse_job
from flash.agent.report import Reporter
from flash.netboot.delivery import Delivery, blobs_in
from flash.netboot.server import FlashServer
from tests.fakes.agent_disks import Machine
from tests.unit.agent.conftest import ImageMaker, Key

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NOW = 1_800_000_100
MIB = 1 << 20
KEY, ROOT, PROMOTER = (Key(Ed25519PrivateKey.from_private_bytes(letter * 32)) for letter in (b"j", b"r", b"p"))
TEXT = json.dumps({"version": "1.0", "components": []})
TRUST = ROOT.envelope(
    agent_trust.PAYLOAD_TYPE,
    {
        "schema_version": 1, "sequence": 3, "issued_at": NOW - 100, "expires": 4_000_000_000, "lab": False,
        "root": {ROOT.key_id: ROOT.pem}, "build": {KEY.key_id: KEY.pem}, "promote": {PROMOTER.key_id: PROMOTER.pem},
        "job": {KEY.key_id: KEY.pem}, "retired": {"build": {}, "promote": {}}, "revoked": {},
    },
)  # fmt: skip


def promoted(maker: ImageMaker, sequence: int) -> dict[str, Any]:
    """Return an image as in a job, promoted to production with this number."""
    described = hashlib.sha256(TEXT.encode()).hexdigest()
    predicate = {"channel": "production", "sequence": sequence, "expires": NOW + 9999, "image_json": described}
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "list", "digest": {"sha256": maker.image_id}}],
        "predicateType": admission.PROMOTION,
        "predicate": predicate,
    }
    return {
        **maker.as_job(),
        "image_json": TEXT,
        "promotion": PROMOTER.envelope(admission.STATEMENT_TYPE, statement),
    }


@dataclass
class Installed:
    """A machine whose disk runs an image that was promoted as number 7, and whose last holder had the token 100."""

    machine: Machine
    maker: ImageMaker
    source: str
    events: list[Any]

    def fields(self, sequence: int, **changes: Any) -> dict[str, Any]:
        fields = {
            "schema_version": 1, "kind": "install", "host": "lab-1", "nonce": "5" * 64, "issued_at": NOW,
            "image": promoted(self.maker, sequence), "source": self.source, "report": f"{self.source}/report", "trust": TRUST,
            "os_disk": {"serial": "S-os", "size_bytes": 320 * MIB}, "protected": [], "environment": "production",
            "layout": {"esp_mib": 33, "system_mib": 130},
        }  # fmt: skip
        return {**fields, **changes}

    def check(self, sequence: int, **changes: Any) -> install.Plan:
        job = parse_job(json.dumps(self.fields(sequence, **changes)).encode())
        trust = agent_trust.open_pinned(TRUST, ROOT.key_id)
        return install.check(job, trust, NOW, self.machine.host, Reporter())

    def run(self, monkeypatch, folder: Path, **changes: Any) -> int:
        """Run the installer's agent with a signed job."""
        envelope = KEY.envelope(PAYLOAD_TYPE, self.fields(8, **changes))
        (folder / "job.json").write_text(json.dumps(envelope))
        words = [f"qtrade.job=file://{folder}/job.json", f"qtrade.root={ROOT.key_id}"]
        monkeypatch.setattr(agent.sys, "argv", ["agent", "install", *words])
        monkeypatch.setattr(installing, "Host", lambda: self.machine.host)
        return agent.main()

    def digests(self) -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.machine.root / "dev").iterdir()
        }

    @contextmanager
    def unwritten(self) -> Iterator[None]:
        """Check that nothing is written and nothing stays mounted."""
        before = self.digests()
        yield
        assert self.digests() == before
        assert str(self.machine.root) not in Path("/proc/mounts").read_text()


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Iterator[Installed]:
    machine, old, new = Machine(tmp_path / "machine"), ImageMaker(KEY), ImageMaker(KEY, cmdline="quiet new")
    (tmp_path / "machine").mkdir()
    machine.add("vda", serial="S-os", size=320 * MIB, partitions=("vda1", "vda2", "vda3", "vda4"))
    proc = machine.host.proc / "sys/kernel/random"
    proc.mkdir(parents=True)
    (proc / "boot_id").write_text("b\n")
    partition.write_table(machine.discover()[0], partition.Layout(33, 130))
    esp, system, state, blobs = (tmp_path / name for name in ("esp", "system", "state", "blobs"))
    for folder in (esp / "grub", system, state / "agent", blobs):
        folder.mkdir(parents=True)
    parsed = parse_job(json.dumps({**Installed(machine, old, "http://h/s", []).fields(7)}).encode()).image
    assert parsed is not None
    images.write_image(system, parsed)
    boot.write_default(esp, old.image_id, "")
    (state / "agent/lease").write_text("100\n")
    for number, folder in ((2, esp), (3, system), (4, state)):
        make_ext4(machine.root / f"dev/vda{number}", folder)
    monkeypatch.setitem(predecessor._OPTIONS, "esp", predecessor._OPTIONS["system"])
    monkeypatch.setattr(protect, "set_read_only", lambda _: None)
    for data in (*new.blobs.values(), b"kernel", b"initrd"):
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
    events: list[Any] = []
    with FlashServer("127.0.0.1", 0) as server, server.serving(Delivery(blobs_in(blobs), events.append)) as served:
        yield Installed(machine, new, served.url, events)


def make_ext4(path: Path, folder: Path) -> None:
    with path.open("wb") as file:
        file.truncate(8 * MIB)
    mke2fs = shutil.which("mke2fs") or "/usr/sbin/mke2fs"
    subprocess.run([mke2fs, "-q", "-t", "ext4", "-d", folder, path], check=True, capture_output=True)


def test_an_image_that_was_promoted_earlier_is_refused_before_the_first_write(installed) -> None:
    with (
        installed.unwritten(),
        pytest.raises(AgentError, match="promoted as number 6, this host runs by number 7") as caught,
    ):
        installed.check(6)
    assert caught.value.code == "image-older"
    assert "--allow-older" in caught.value.remedy


@pytest.mark.parametrize(("sequence", "changes"), [(7, {}), (8, {}), (6, {"allow_older": True})])
def test_a_newer_image_follows_and_an_older_one_that_is_asked_for(installed, sequence, changes) -> None:
    with installed.unwritten():
        assert installed.check(sequence, **changes).keeps_layout


@pytest.mark.parametrize("what", ["wipe_state", "remake_system"])
def test_a_disk_that_is_made_anew_does_not_forget_what_it_ran_by(installed, what) -> None:
    with installed.unwritten(), pytest.raises(AgentError, match="number 7"):
        installed.check(6, **{what: True})


def test_a_disk_that_cannot_be_read_says_nothing(installed) -> None:
    (installed.machine.root / "dev/vda3").write_bytes(bytes(MIB))
    assert installed.check(6).keeps_layout


@pytest.mark.parametrize("kind", ["install", "decommission"])
def test_a_controller_that_was_cut_off_writes_nothing(installed, kind, tmp_path, monkeypatch) -> None:
    with installed.unwritten():
        assert installed.run(monkeypatch, tmp_path, kind=kind, lease=99) == 1
    report = installed.events[-1]
    assert (report["ok"], report["written"], report["error"]["code"]) == (False, False, "lease-lost")
    assert "token 100" in report["error"]["message"]


def test_the_holder_of_the_host_gets_beyond_that(installed, tmp_path, monkeypatch) -> None:
    """It is refused for something that is looked at later."""
    with installed.unwritten():
        assert installed.run(monkeypatch, tmp_path, lease=100, protected=[{"serial": "NONE"}]) == 1
    assert installed.events[-1]["error"]["code"] == "protected-missing"
