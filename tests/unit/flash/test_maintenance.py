"""Errands of the installer, run by an agent that is a thread: what is asked of it, kept of it, and undone after it."""

import base64
import json
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from flash import maintenance
from flash.agent.report import sign_report
from flash.context import FlashContext
from flash.doors.installer import Installer, Place
from flash.journal import Journal
from flash.ssh import known_hosts_path, pin_host_key
from flash.states import Rules, State
from flash.trust import VerifiedImage
from qtrade.errors import BadInput, HostError, Refused
from qtrade.manifest.driver import Door
from qtrade.store import LocalStore
from tests.fakes.examples import blob_bytes, make_environment, make_host, make_image, make_settings
from tests.fakes.flash import FakeContext, FakeLink
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

UUID = "11111111-2222-3333-4444-555555555555"
DATA = [{"serial": "DATA-1", "fs_uuid": UUID, "mount": "/srv/data"}]


class FakeEntry:
    """Boots an agent that fetches its job over HTTP, as the installer does, and answers with `answer`."""

    def __init__(self, answer: dict) -> None:
        self.answer = answer
        self.jobs: list[dict] = []
        self.left = 0

    def check(self, context: FlashContext) -> dict:
        return {}

    def can_repeat(self, context: FlashContext) -> bool:
        return True

    def place(self, context: FlashContext) -> Place:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        return Place("127.0.0.1", port)

    def enter(self, context: FlashContext, installer: Installer) -> dict:
        threading.Thread(target=self._work, args=(installer.served.url,)).start()
        return {"entered": True}

    def leave(self, context: FlashContext) -> None:
        self.left += 1

    def _work(self, url: str) -> None:
        with urllib.request.urlopen(f"{url}/job", timeout=10) as answer:
            job = json.loads(base64.b64decode(json.load(answer)["payload"]))
        self.jobs.append(job)
        good = {"event": "report", "ok": True, "nonce": job["nonce"], "boot_id": "b", "error": None}
        line = json.dumps(sign_report({**good, **self.answer}, job["nonce"])).encode()
        urllib.request.urlopen(urllib.request.Request(job["report"], data=line), timeout=10).close()


def make_context(tmp_path: Path, **host) -> FakeContext:
    settings = make_settings(tmp_path)
    image = make_image()
    store = LocalStore(settings.store)
    for name in ("kernel", "installer"):
        path = tmp_path / name
        path.write_bytes(blob_bytes(name))
        store.add_blob(path, getattr(image, name).digest)
    verified = VerifiedImage(image, image.to_json(), image.list_text(), b"")
    made = make_host(**{"data_disks": DATA, **host})
    journal = Journal(settings.state_dir / "flashes/rpc-1/x.jsonl")
    parts = (settings, made, make_environment(), verified, store, None, RecordingReporter(), journal)
    return FakeContext(*parts, fake_link=FakeLink())


def use(monkeypatch, entry: FakeEntry) -> FakeEntry:
    monkeypatch.setattr(maintenance, "entry_for", lambda _: entry)
    return entry


def test_disks_are_prepared_by_a_job_of_their_own_and_recorded(tmp_path, monkeypatch) -> None:
    formatted = [{"disk": "vdc", "fs_uuid": UUID}]
    entry = use(monkeypatch, FakeEntry({"formatted": formatted}))
    context = make_context(tmp_path)
    done = maintenance.prepare_disks(context, Door.PXE)
    assert done.evidence["formatted"] == formatted
    (job,) = entry.jobs
    assert (job["kind"], job["data"]) == ("prepare_disks", [{"serial": "DATA-1", "fs_uuid": UUID}])
    assert job["protected"] == [{"serial": "LEDGER-1"}]
    assert json.loads(Path(done.record).read_text())["formatted"] == formatted
    assert entry.left == 1


def test_a_data_disk_without_uuid_is_refused_before_anything_boots(tmp_path, monkeypatch) -> None:
    entry = use(monkeypatch, FakeEntry({}))
    data = [{"serial": "DATA-1", "mount": "/srv/data"}]
    with pytest.raises(BadInput, match=r"/srv/data.*no fs_uuid"):
        maintenance.prepare_disks(make_context(tmp_path, data_disks=data), Door.PXE)
    assert entry.jobs == []


def test_a_wiped_host_is_forgotten(tmp_path, monkeypatch) -> None:
    entry = use(monkeypatch, FakeEntry({"wiped_bytes": 5, "protected": []}))
    context = make_context(tmp_path)
    pin_host_key(context.settings, "rpc-1", "ssh-ed25519 AAAA")
    context.store.set_host_images("rpc-1", ["a" * 64])
    context.fake_link.statuses = []
    done = maintenance.decommission(context, Door.PXE)
    assert done.evidence["wiped_bytes"] == 5
    assert entry.jobs[0]["protected"] == [{"serial": "LEDGER-1"}, {"serial": "DATA-1", "fs_uuid": UUID}]
    assert not known_hosts_path(context.settings, "rpc-1").exists()
    assert json.loads((context.settings.store / "hosts/rpc-1.json").read_text()) == []


def test_a_failed_errand_leaves_the_host_known_and_cleans_up(tmp_path, monkeypatch) -> None:
    error = {"code": "disk-foreign", "message": "not ours", "remedy": "look"}
    use(monkeypatch, FakeEntry({"ok": False, "error": error}))
    context = make_context(tmp_path)
    pin_host_key(context.settings, "rpc-1", "ssh-ed25519 AAAA")
    undone = []
    context.clean_up.append(lambda: undone.append("override"))
    with pytest.raises(HostError, match="not ours"):
        maintenance.decommission(context, Door.PXE)
    assert undone == ["override"]
    assert known_hosts_path(context.settings, "rpc-1").exists()


def test_the_way_in_is_one_that_boots_the_installer(tmp_path) -> None:
    context = make_context(tmp_path)
    assert maintenance.choose_door(context, None) is Door.PXE
    with pytest.raises(Refused, match="no door that boots the installer called in_place"):
        maintenance.choose_door(context, Door.IN_PLACE)


class Deaf(FakeEntry):
    """A way in that does not work the first time."""

    entered = 0

    def enter(self, context: FlashContext, installer: Installer) -> dict:
        self.entered += 1
        return super().enter(context, installer) if self.entered > 1 else {}


def test_a_boot_that_did_not_reach_the_installer_is_tried_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(maintenance, "rules", lambda *_: Rules(4.0, "", State.FAILED_SAFE))
    entry = use(monkeypatch, Deaf({"wiped_bytes": 5, "protected": []}))
    maintenance.decommission(make_context(tmp_path), Door.PXE)
    assert (entry.entered, len(entry.jobs)) == (2, 1)
