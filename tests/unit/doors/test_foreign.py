"""Systems that are not ours: what proves a rescue system, and whose host key counts."""

from dataclasses import replace
from pathlib import Path

import pytest

from flash.doors import DoorClosed
from flash.doors.foreign import LinuxFacts, reach
from flash.doors.rescue import prove_rescue
from flash.drivers import RescueLogin
from flash.journal import Journal
from flash.trust import VerifiedImage
from qtrade.store import LocalStore
from tests.fakes.examples import make_environment, make_host, make_image, make_settings
from tests.fakes.flash import FakeContext
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

RESCUE = LinuxFacts("boot-2", "rootfs", "6.12", is_ours=False, filesystems=frozenset({"ext4", "vfat", "erofs"}))
KEY = "ssh-ed25519 AAAAC3Nz"


def make_context(tmp_path: Path, **changes: object) -> FakeContext:
    settings = make_settings(tmp_path)
    made = make_image()
    image = VerifiedImage(made, made.to_json(), made.list_text(), b"")
    host = make_host(driver={"kind": "ssh"}, doors=["rescue"], **changes)
    journal, store = Journal(tmp_path / "journal.jsonl"), LocalStore(settings.store)
    bundle = None
    return FakeContext(settings, host, make_environment(), image, store, bundle, RecordingReporter(), journal)  # type: ignore[arg-type]


def test_a_system_in_memory_is_a_rescue_system(tmp_path: Path) -> None:
    assert prove_rescue(RESCUE, make_context(tmp_path), "boot-1") is RESCUE


@pytest.mark.parametrize(
    ("facts", "old", "said"),
    [
        (replace(RESCUE, root="ext4"), None, "root is on ext4"),
        (replace(RESCUE, root="overlay", is_ours=True), None, "an image of qtrade"),
        (RESCUE, "boot-2", "does not run a rescue system"),
        (replace(RESCUE, filesystems=frozenset({"ext4", "vfat"})), None, "knows no erofs"),
    ],
)
def test_that_ssh_answers_proves_nothing(tmp_path: Path, facts: LinuxFacts, old: str | None, said: str) -> None:
    with pytest.raises(DoorClosed, match=said):
        prove_rescue(facts, make_context(tmp_path), old)


def test_an_unknown_host_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DoorClosed, match="nobody has told the SSH host key"):
        reach(make_context(tmp_path), RescueLogin("root"))


@pytest.mark.parametrize("told", [(KEY,), ()])
def test_the_key_of_the_api_comes_before_the_manifests(tmp_path: Path, told: tuple[str, ...]) -> None:
    context = make_context(tmp_path, rescue={"host_key": "ssh-ed25519 BBBB"})
    system = reach(context, RescueLogin("root", host_keys=told))
    expected = KEY if told else "ssh-ed25519 BBBB"
    assert system.target.known_hosts.read_text() == f"rpc-1 {expected}\n"
