"""Which installed image a host may go back to, with every reason against it at once."""

from pathlib import Path
from typing import Any

import pytest

from flash.agent.status import read_contracts
from flash.inventory import load_host
from flash.rollback_guard import Target, choose_target, reasons_against, servers_of
from flash.rollout import undoing
from flash.rollout.undoing import HostReturn, ask_return
from qtrade.errors import HostError, Refused
from qtrade.manifest import Image
from qtrade.manifest.image import ImageComponent
from qtrade.settings import Settings
from qtrade.store import BlobRecord
from qtrade.store.blocks import Block, Blocks, why_blocked
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.release import plan_revocation, revoke
from tests.fakes.examples import make_settings, sha
from tests.fakes.projects import write_project
from tests.fakes.releases import Room

pytestmark = pytest.mark.unit


def agave(version: str) -> tuple[ImageComponent, ...]:
    return (ImageComponent(name="agave", version=version, sha256=sha("agave"), standin=False),)


class Scene:
    """Host rpc-1 runs 0.2.0 and keeps 0.1.0."""

    def __init__(self, settings: Settings) -> None:
        write_project(settings)
        self.settings, self.room = settings, Room(settings)
        ensure_keyring(settings)
        self.host = load_host(settings, "rpc-1")

    def publish(self, old: str = "4.1.0", new: str = "4.2.0") -> None:
        self.old = self.room.publish("0.1.0", cmdline="old", components=agave(old))
        self.new = self.room.publish("0.2.0", cmdline="new", components=agave(new))
        self.status: dict[str, Any] = {
            "image": self.new.id,
            "default": self.new.id,
            "previous": self.old.id,
            "installed": [self.new.id, self.old.id],
            "generations": {self.old.id: "1", self.new.id: "2"},
            "data": {"agave": new},
        }

    def reasons(self) -> tuple[str, ...]:
        target = choose_target(self.settings, self.room.store, self.host, self.status, None)
        return reasons_against(self.settings, self.room.store, self.host, self.status, target)

    def block(self, image: Image) -> None:
        found = Block(image.id, "demo", image.version, "staging", "r1", "gate rpc on rpc-9", "op@here", 1.0)
        Blocks(self.room.store.objects).add(found)


@pytest.fixture
def scene(tmp_path: Any) -> Scene:
    return Scene(make_settings(tmp_path))


def test_the_version_before_fits(scene: Scene) -> None:
    scene.publish()
    target = choose_target(scene.settings, scene.room.store, scene.host, scene.status, None)
    assert target == Target(scene.old.id, scene.old, "0.1.0")
    assert scene.reasons() == ()


def test_every_reason_is_told_at_once(scene: Scene) -> None:
    scene.publish(old="2.3.0", new="4.2.0")
    plan = plan_revocation(scene.room.store, "demo", "0.1.0", reason="CVE-2026-1")
    revoke(scene.room.store, scene.room.keyring, plan, now=1)
    scene.block(scene.old)
    scene.status["generations"] = {scene.new.id: "2"}
    assert [one.split(":")[0] for one in scene.reasons()] == [
        f"image {scene.old.id[:16]} must not be used",
        "0.1.0 is blocked",
        f"rpc-1 keeps no config generation for {scene.old.id[:16]}…",
        "rpc-1",
    ]
    assert "written by Agave 4.2.0, more than one minor from 2.3.0" in scene.reasons()[3]


def test_what_is_not_installed_is_no_target(scene: Scene) -> None:
    scene.publish()
    scene.room.publish("0.0.9", cmdline="older")
    with pytest.raises(Refused, match=r"no version 0\.0\.9 installed"):
        choose_target(scene.settings, scene.room.store, scene.host, scene.status, "0.0.9")


def test_another_major_of_the_database_does_not_read_the_cluster(scene: Scene) -> None:
    layers = {
        major: tuple(
            layer.model_copy(update={"key": sha(f"{layer.role} {major}")}) if layer.role == "app" else layer
            for layer in scene.room.publish(f"9.{major}.0").layers
        )
        for major in (15, 17)
    }
    scene.old = scene.room.publish("0.1.0", cmdline="old", layers=layers[15])
    scene.new = scene.room.publish("0.2.0", cmdline="new", layers=layers[17])
    old, new = scene.old, scene.new
    scene.status = {"image": new.id, "default": new.id, "previous": old.id, "installed": [new.id, old.id]}
    assert scene.reasons() == (), "nothing is known of their paths"
    for major, image in ((15, old), (17, new)):
        layer = next(one for one in image.layers if one.role == "app")
        record = BlobRecord(key=layer.key, name="app", digest=layer.digest, size=layer.size, verity=layer.verity)
        paths = (
            "d 0755:0:0 usr/lib",
            f"f usr/lib/postgresql/{major}/bin/postgres",
            f"f usr/lib/postgresql/{major}/bin/psql",
        )
        scene.room.store.add_record(record, paths)
    assert servers_of(scene.room.store, old) == {"15"}
    assert len(scene.reasons()) == 1
    assert "runs PostgreSQL 17, 0.1.0 has 15" in scene.reasons()[0]


@pytest.mark.parametrize(("last", "fits"), [("0.0.9", True), ("0.1.0", False), ("0.1.1", False)])
def test_a_contracted_schema_is_not_gone_back_behind(scene: Scene, last: str, *, fits: bool) -> None:
    scene.publish()
    scene.status["contracts"] = {"postgres": last}
    assert (scene.reasons() == ()) is fits


def test_an_agent_tells_what_its_migrations_took_away(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/qtrade/postgres/migrations"
    folder.mkdir(parents=True)
    lines = {
        "0001_access": "-- expand: roles",
        "0002_drop": "-- contract after 1.10.0: the old column",
        "0003_drop": "-- contract after 1.9.2: another",
    }
    for name, first in lines.items():
        (folder / f"{name}.sql").write_text(f"{first}\nSELECT 1;\n")
    assert read_contracts(tmp_path) == {"postgres": "1.10.0"}
    assert read_contracts(tmp_path / "nothing") == {}


def test_a_silent_host_does_not_fit(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.publish()

    def silent(*_: object) -> None:
        raise HostError("rpc-1 does not answer")

    monkeypatch.setattr(undoing, "target_for", silent)
    found = ask_return(scene.settings, scene.room.store, "rpc-1", "")
    assert found == HostReturn("rpc-1", "", ("rpc-1 does not answer",))


def test_the_first_reason_of_a_block_stays_until_it_is_lifted(scene: Scene) -> None:
    scene.publish()
    blocks = Blocks(scene.room.store.objects)
    scene.block(scene.new)
    blocks.add(Block(scene.new.id, "demo", "0.2.0", "production", "r2", "another", "op@here", 2.0))
    assert why_blocked(scene.room.store, scene.new.id) == "gate rpc on rpc-9 (rollout to staging, 1970-01-01 00:00 UTC)"
    blocks.lift(scene.new.id, reason="a false alarm", by="op@here")
    assert why_blocked(scene.room.store, scene.new.id) == ""
    scene.block(scene.new)
    assert blocks.find(scene.new.id) is not None
