"""An image whose Agave is more than one minor from what wrote the ledger is refused before anything happens to the host."""

from typing import Any

import pytest
import yaml

from flash import rollback as rollback_module
from flash.config import render_bundle
from flash.doors import in_place, installer
from flash.journal import Journal
from flash.ssh import known_hosts_path, pin_host_key
from flash.states import State
from flash.trust import VerifiedImage
from flash.written_data import find_installed, is_near, refuse_far_data
from qtrade.errors import HostError, Refused
from qtrade.manifest import Image
from qtrade.manifest.image import ImageComponent
from qtrade.settings import Settings, load_settings
from qtrade.trust.keyring import ensure_keyring
from tests.fakes.examples import host_fields, make_environment, make_host, sha
from tests.fakes.flash import FakeBoard, FakeContext, FakeLink
from tests.fakes.releases import Room
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

MINORS = ((3, 1), (4, 0), (4, 1), (4, 2), (4, 3))
IN_PLACE = {"state": "persistent", "sequence": 0, "default": sha("old"), "image": sha("old"), "failed_boots": 0}


@pytest.fixture
def room(tmp_path) -> Room:
    settings = Settings(load_settings().project, tmp_path, tmp_path / "store")
    ensure_keyring(settings)
    return Room(settings)


def agave(version: str) -> tuple[ImageComponent, ...]:
    return (ImageComponent(name="agave", version=version, sha256=sha("agave"), standin=False),)


def context(room: Room, image: Image, written: str | None, **config: Any) -> FakeContext:
    host, environment = make_host(config=config), make_environment()
    data = {} if written is None else {"data": {"agave": written}}
    verified = VerifiedImage(image, image.to_json(), image.list_text(), b"")
    bundle = render_bundle(make_host(), environment, image)
    journal = Journal(room.settings.state_dir / "journal")
    known_hosts = known_hosts_path(room.settings, host.name)
    known_hosts.parent.mkdir(exist_ok=True)
    known_hosts.touch()
    parts = (room.settings, host, environment, verified, room.store, bundle, RecordingReporter(), journal)
    return FakeContext(*parts, fake_link=FakeLink(statuses=[{**IN_PLACE, **data, "boot_id": "1"}]))


@pytest.mark.parametrize(
    ("written", "version", "near"),
    [
        ("4.2.1", "4.2.9", True),
        ("4.2.1", "4.1.0", True),
        ("4.2.1", "4.3.0-rc.0", True),
        ("3.1.14", "4.0.0", True),
        ("4.0.3", "4.2.1", False),
        ("4.2.1", "4.0.3", False),
        ("3.1.14", "4.1.0", False),
        # Minors that the table does not have: only within one major is the next number the neighbour.
        ("4.3.0", "4.4.0", True),
        ("4.2.0", "4.4.0", False),
        ("4.9.0", "5.0.0", False),
        ("nonsense", "4.2.1", False),
    ],
)
def test_what_is_near(written, version, near) -> None:
    assert is_near(written, version, MINORS) is near
    assert is_near(version, written, MINORS) is near


@pytest.mark.parametrize(
    "data", [{}, {"data": {}}, {"data": None}, {"data": {"other": "1.0"}}, {"data": {"agave": "4.1.2"}}]
)
def test_a_host_that_says_nothing_or_fits_is_let_through(room, data) -> None:
    refuse_far_data(room.settings, make_host(), room.publish(components=agave("4.2.1")), data)


def test_an_image_without_a_validator_fits_any_data(room) -> None:
    refuse_far_data(room.settings, make_host(), room.publish(), {"data": {"agave": "3.0.0"}})


def test_the_refusal_names_both_versions_and_the_cures(room) -> None:
    image = room.publish(components=agave("4.2.1"))
    with pytest.raises(Refused) as caught:
        refuse_far_data(room.settings, make_host(), image, {"data": {"agave": "4.0.3"}})
    assert "its ledger was written by Agave 4.0.3, more than one minor from 4.2.1 of demo 0.1.0" in str(caught.value)
    assert "set config.agave_accept_data_of: 4.0.3" in str(caught.value.resolution)


@pytest.mark.parametrize(("accepted", "is_refused"), [("4.0.3", False), ("4.0.2", True), ("", True)])
def test_only_the_very_version_is_accepted(room, accepted, is_refused) -> None:
    image = room.publish(components=agave("4.2.1"))
    host = make_host(config={"agave_accept_data_of": accepted})
    if is_refused:
        with pytest.raises(Refused):
            refuse_far_data(room.settings, host, image, {"data": {"agave": "4.0.3"}})
    else:
        refuse_far_data(room.settings, host, image, {"data": {"agave": "4.0.3"}})


@pytest.mark.parametrize(("written", "is_refused"), [("4.0.3", True), ("4.1.2", False), (None, False)])
@pytest.mark.parametrize(("door", "state"), [(in_place.steps, State.PREFLIGHT), (lambda: None, State.DRAINED)])
def test_a_flash_is_refused_before_the_host_is_given_a_job(room, door, state, written, is_refused) -> None:
    flashing = context(room, room.publish(components=agave("4.2.1")), written)
    step = (door() or {State.DRAINED: installer.enter_drained})[state]
    if is_refused:
        with pytest.raises(Refused, match="more than one minor"):
            step(flashing, 1)
        assert flashing.fake_link.jobs == []
    elif state is State.PREFLIGHT:
        assert step(flashing, 1)["old_image"] == sha("old")
    else:
        with pytest.raises(KeyError):  # the host of this test tells nothing of its drain
            step(flashing, 1)
        assert len(flashing.fake_link.jobs) == 1


def test_an_installed_image_is_found_by_its_id(room) -> None:
    old = room.publish("0.1.0", components=agave("4.0.3"), cmdline="old")
    room.publish("0.2.0", components=agave("4.2.1"), cmdline="new")
    assert find_installed(room.store, "demo", old.id) == old
    assert find_installed(room.store, "demo", sha("gone")) is None


@pytest.fixture
def link(room, monkeypatch) -> FakeLink:
    """A host that runs 0.2.0 and holds 0.1.0, whose Agave is two minors older."""
    old = room.publish("0.1.0", components=agave("4.0.3"), cmdline="old")
    new = room.publish("0.2.0", components=agave("4.2.1"), cmdline="new")
    folder = room.settings.state_dir / "lab/rpc-1"
    folder.mkdir(parents=True)
    identity = folder / "deploy"
    identity.touch(mode=0o600)
    fields = host_fields(name="rpc-1", recipe="demo", ssh={"identity_file": str(identity)})
    (folder / "host.yaml").write_text(yaml.safe_dump(fields))
    pin_host_key(room.settings, "rpc-1", "ssh-ed25519 AAAA")
    status = {"image": new.id, "default": new.id, "previous": old.id, "installed": [new.id, old.id], "boot_id": "1"}
    status["version"] = "0.2.0"
    made = FakeLink(statuses=[status])
    monkeypatch.setattr("flash.access.AgentLink", lambda _: made)
    monkeypatch.setattr("flash.access.driver_for", lambda *_, **__: FakeBoard())
    return made


@pytest.mark.parametrize("to", [None, "0.1.0"])
def test_a_rollback_is_refused_before_the_host_is_given_a_job(room, link, to) -> None:
    link.statuses[0]["data"] = {"agave": "4.2.1"}
    with pytest.raises(Refused, match=r"written by Agave 4\.2\.1, more than one minor from 4\.0\.3 of demo 0\.1\.0"):
        rollback_module.rollback(room.settings, "rpc-1", RecordingReporter(), to=to)
    assert link.jobs == []


def test_a_rollback_to_what_fits_the_data_goes_on(room, link) -> None:
    """The new version never ran on this ledger, so it is the older one's still."""
    link.statuses[0]["data"] = {"agave": "4.1.9"}
    with pytest.raises(HostError, match="the boot of the earlier version"):  # this host never boots
        rollback_module.rollback(room.settings, "rpc-1", RecordingReporter())
    assert len(link.jobs) == 2
