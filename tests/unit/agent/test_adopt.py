"""A newer trust set on a running host: it counts at once, and never makes unbootable what boots now."""

import contextlib
import json

import pytest

from flash.agent import actions, admission, adopt, boot, images, mounts, trust
from flash.agent.errors import AgentError
from flash.agent.host import Host
from flash.agent.job import parse_job
from flash.agent.report import Reporter
from flash.agent.task import Task

pytestmark = pytest.mark.unit


class FolderHost(Host):
    """A host whose partitions are folders; `image` is the one that runs."""

    def __init__(self, run, image=""):
        super().__init__(run=run)
        self.image = image

    @property
    def image_id(self) -> str:
        return self.image

    @contextlib.contextmanager
    def esp(self):
        yield self.run / "esp"


@pytest.fixture
def sets(make_trust, root, key, other_key):
    """Return the set that the host has, one that retires its build key, and one that revokes it."""
    old, new = {key.key_id: key.pem}, {other_key.key_id: other_key.pem}

    def make(**changes):
        return trust.open_pinned(make_trust(**changes), root.key_id)

    return {
        "held": make(),
        "rotated": make(sequence=4, build=new, retired={"build": old, "promote": {}}, job={}),
        "revoked": make(sequence=5, build=new, job={}, revoked=old),
    }


@pytest.fixture
def host(tmp_path, sets, monkeypatch):
    """A host that runs `first`, with `second` before it; both are signed by the key of the held set."""

    @contextlib.contextmanager
    def writable(target):
        yield target

    monkeypatch.setattr(mounts, "writable", writable)
    (tmp_path / "esp/grub").mkdir(parents=True)
    (tmp_path / "system/images").mkdir(parents=True)
    trust.write_held(tmp_path / "system", sets["held"])
    adopt.add_boot_keys(tmp_path / "system", sets["held"])
    admission.write_environment(tmp_path / "system", "development")
    return FolderHost(run=tmp_path)


@pytest.fixture
def put(host, job_fields, image):
    """Return a function that installs an image of one blob, signed by a key, and returns its id."""

    def install(name, signer) -> str:
        image.blobs, image.key = {"base": name.encode()}, signer
        made = parse_job(json.dumps(job_fields(image=image.as_job())).encode()).image
        assert made is not None
        images.write_image(host.system, made)
        images.write_entry(host.system, made.image_id, "boot\n")
        return made.image_id

    return install


def running(host, image_id, previous="", once="") -> FolderHost:
    boot.write_default(host.run / "esp", image_id, previous)
    boot.write_once(host.run / "esp", once)
    return FolderHost(run=host.run, image=image_id)


def boot_keys(host) -> set[str]:
    return {path.stem for path in (host.system / "trust").glob("*.pem")}


def state(host) -> boot.BootState:
    return boot.read_state(host.run / "esp")


def test_a_rotation_adds_a_key_and_takes_none(host, put, sets, key, other_key):
    host = running(host, put("one", key))
    adopt.adopt(host, sets["rotated"], "")
    assert trust.read_held(host.system) == sets["rotated"]
    assert boot_keys(host) == {key.key_id, other_key.key_id}
    assert images.installed(host.system) == [host.image_id]


def test_a_revoked_key_stays_for_the_boot_until_another_image_is_the_default(host, put, sets, key, other_key):
    old, before = put("one", key), put("two", key)
    host = running(host, old, previous=before)
    adopt.adopt(host, sets["revoked"], "")
    assert trust.read_held(host.system) == sets["revoked"]
    assert boot_keys(host) == {key.key_id, other_key.key_id}
    assert state(host) == boot.BootState(old, before)
    # The next job, still before a flash: nothing changes.
    adopt.adopt(host, sets["revoked"], "")
    assert key.key_id in boot_keys(host)

    new = put("three", other_key)
    host = running(host, new, previous=old)
    adopt.settle(host, sets["revoked"])
    assert boot_keys(host) == {other_key.key_id}
    assert images.installed(host.system) == [new]
    assert state(host) == boot.BootState(new, "")


def test_while_an_image_of_a_revoked_key_runs_its_key_stays(host, put, sets, key, other_key):
    # A rollback makes a good image the default first and reboots then.
    old, good = put("one", key), put("two", other_key)
    running(host, good, previous=old)
    adopt.adopt(FolderHost(run=host.run, image=old), sets["revoked"], "")
    assert boot_keys(host) == {key.key_id, other_key.key_id}
    adopt.adopt(FolderHost(run=host.run, image=good), sets["revoked"], "")
    assert boot_keys(host) == {other_key.key_id}


def test_what_was_armed_by_a_revoked_key_is_disarmed(host, put, sets, key, other_key):
    bad, good = put("bad", key), put("good", other_key)
    host = running(host, good, once=bad)
    adopt.adopt(host, sets["revoked"], "")
    assert state(host).once == ""


def test_a_good_image_stays_armed_when_keys_are_rotated(host, put, sets, key):
    first, second = put("one", key), put("two", key)
    host = running(host, first, once=second)
    adopt.adopt(host, sets["rotated"], "")
    assert state(host).once == second


def test_a_job_that_lost_a_race_does_not_bring_an_older_set_back(host, put, sets, key):
    host = running(host, put("one", key))
    adopt.adopt(host, sets["revoked"], "")
    with pytest.raises(AgentError) as caught:
        adopt.adopt(host, sets["rotated"], "")
    assert caught.value.code == "trust-older"


def test_the_environment_is_raised_with_a_job(host, put, sets, key):
    host = running(host, put("one", key))
    assert adopt.adopt(host, sets["held"], "production") == "production"
    assert adopt.adopt(host, sets["held"], "development") == "production"
    assert admission.read_environment(host.system) == "production"


def test_a_lab_set_cannot_make_a_host_one_of_production(host, put, key, make_trust, root):
    lab = trust.open_pinned(make_trust(sequence=9, lab=True), root.key_id)
    host = running(host, put("one", key))
    with pytest.raises(AgentError) as caught:
        adopt.adopt(host, lab, "production")
    assert caught.value.code == "trust-lab"
    assert admission.read_environment(host.system) == "development"
    assert trust.read_held(host.system).sequence == 3


def test_of_what_a_revoked_key_signed_only_the_default_may_be_armed(host, put, sets, key, job_fields):
    old, other = put("one", key), put("two", key)
    host = running(host, old)
    (host.state / "host").mkdir(parents=True)

    def arm(image_id):
        fields = job_fields(kind="arm", image=None, image_id=image_id)
        job = parse_job(json.dumps(fields).encode())
        actions.arm(Task(job, host, Reporter(), sets["revoked"], "development", 0, 0))

    with pytest.raises(AgentError) as caught:
        arm(other)
    assert caught.value.code == "key-revoked"
    assert state(host).once == ""
    assert not (host.state / "host/nonce").exists(), "a refused job left its nonce as if it had been done"
    arm(old)
    assert state(host).once == old


def test_what_a_revoked_key_signed_is_not_made_the_default(host, put, sets, key, other_key, job_fields):
    old, bad = put("one", other_key), put("two", key)
    host = running(host, old, previous=bad)
    (host.state / "host").mkdir(parents=True)
    fields = job_fields(kind="commit", image=None, image_id=bad, require_running=False)
    job = parse_job(json.dumps(fields).encode())
    with pytest.raises(AgentError) as caught:
        actions.commit(Task(job, host, Reporter(), sets["revoked"], "development", 0, 0))
    assert caught.value.code == "key-revoked"
    assert state(host) == boot.BootState(old, bad)
