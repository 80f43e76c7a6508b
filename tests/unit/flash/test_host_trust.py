"""Controller and host agree: what one makes, the other takes or refuses by itself."""

import json
import time

import pytest

from flash.agent import admission, images, trust
from flash.agent.errors import AgentError
from flash.agent.host import Host
from flash.agent.job import open_job
from flash.jobs import JobBuilder
from flash.trust import choose_version, load_allowed, sequence_kept
from qtrade.errors import Refused
from qtrade.signing import JOB_TYPE
from qtrade.trust.keyring import init_keys, revoke_key, rotate_key, rotate_root
from qtrade.trust.release import plan_promotion, promote
from tests.fakes.examples import make_environment, make_host, make_settings
from tests.fakes.releases import Room, rules

pytestmark = pytest.mark.unit

NOW = int(time.time())
PRODUCTION = make_environment(name="production", allow_standins=False, promotion={"keys": 1})


@pytest.fixture
def room(tmp_path) -> Room:
    settings = make_settings(tmp_path)
    init_keys(settings, root_key=tmp_path / "root.key")
    return Room(settings)


@pytest.fixture
def stage(room):
    """Return a function that makes the job that stages the promoted image on a production host."""

    def make(**options):
        loaded = load_allowed(room.store, "demo", "0.1.0", trust=room.keyring.trust, environment=PRODUCTION)
        jobs = JobBuilder(make_host(environment="production"), room.keyring)
        return jobs.stage(loaded, source="http://h/s", bundle={}, **options)

    return make


def raise_version(room) -> None:
    plan = plan_promotion(room.store, room.keyring, rules("production"), "demo", "0.1.0", expires_days=1, now=NOW)
    promote(room.store, room.keyring, plan)


def open_on_host(room, job):
    """Return the job and the set as an installer takes them that pins the root."""
    found = trust.open_pinned(trust.offered_set(job.envelope, JOB_TYPE), room.keyring.root_id)
    return open_job(job.envelope, found.job), found


def test_a_promoted_image_is_admitted_in_production(room, stage) -> None:
    room.publish()
    raise_version(room)
    job, found = open_on_host(room, stage())
    assert job.environment == "production"
    assert admission.require_admitted(job.image, found, job.environment, NOW) == 1


def test_a_host_refuses_a_promotion_whose_key_is_revoked_meanwhile(room, stage, tmp_path) -> None:
    room.publish()
    raise_version(room)
    job, _ = open_on_host(room, stage())
    old = next(iter(room.keyring.trust.promote))
    newer = revoke_key(room.settings, old, root_key=tmp_path / "root.key")
    found = trust.open_pinned(newer.envelope, newer.root_id)
    with pytest.raises(AgentError) as caught:
        admission.require_admitted(job.image, found, job.environment, NOW)
    assert caught.value.code == "signature-untrusted"


def test_a_job_of_a_rotated_job_key_brings_the_set_that_knows_it(room, tmp_path) -> None:
    held = trust.open_pinned(room.keyring.envelope, room.keyring.root_id)
    rotate_key(room.settings, "job", root_key=tmp_path / "root.key")
    made = JobBuilder(make_host(), room.keyring).simple("drain")
    with pytest.raises(AgentError, match="no trusted key"):
        open_job(made.envelope, held.job)
    found = trust.choose(held, trust.offered_set(made.envelope, JOB_TYPE), NOW)
    assert open_job(made.envelope, found.job).nonce == made.nonce


def test_a_host_follows_its_root_to_the_next_one(room, tmp_path) -> None:
    held = trust.open_pinned(room.keyring.envelope, room.keyring.root_id)
    second = rotate_root(room.settings, tmp_path / "next.key", root_key=tmp_path / "root.key")
    held = trust.choose(held, second.envelope, NOW)
    third = rotate_key(room.settings, "build", root_key=tmp_path / "next.key")
    assert trust.choose(held, third.envelope, NOW).sequence == 3


def test_a_host_that_missed_a_root_takes_no_set_of_the_one_after(room, tmp_path) -> None:
    held = trust.open_pinned(room.keyring.envelope, room.keyring.root_id)
    rotate_root(room.settings, tmp_path / "next.key", root_key=tmp_path / "root.key")
    third = rotate_key(room.settings, "build", root_key=tmp_path / "next.key")
    with pytest.raises(AgentError, match="no trusted key"):
        trust.choose(held, third.envelope, NOW)


@pytest.mark.parametrize(("allow_older", "refused"), [(False, True), (True, False)])
def test_an_image_promoted_before_the_one_that_runs_needs_a_word(room, stage, tmp_path, allow_older, refused) -> None:
    room.publish()
    raise_version(room)
    older, found = open_on_host(room, stage(allow_older=allow_older))
    raise_version(room)
    newer, _ = open_on_host(room, stage())
    host = Host(run=tmp_path / "run")
    (host.system / "images").mkdir(parents=True)
    images.write_image(host.system, newer.image)
    sequence = admission.require_admitted(older.image, found, "production", NOW)
    runs_by = admission.sequence_of(host.system, newer.image.image_id, found)
    if not refused:
        admission.require_newer(sequence, runs_by, allow_older=older.allow_older)
        return
    with pytest.raises(AgentError, match="promoted as number 1, this host runs by number 2"):
        admission.require_newer(sequence, runs_by, allow_older=older.allow_older)


def test_the_store_tells_by_what_a_host_runs_that_does_not_answer(room) -> None:
    image = room.publish()
    room.store.set_host_images("rpc-1", [image.id])
    trust_set = room.keyring.trust
    assert sequence_kept(room.store, "rpc-1", trust_set, "production") == 0
    for _ in range(2):
        raise_version(room)
    assert sequence_kept(room.store, "rpc-1", trust_set, "production") == 2
    assert sequence_kept(room.store, "rpc-2", trust_set, "production") == 0


def test_a_job_says_what_the_host_must_keep(room, stage) -> None:
    room.publish()
    raise_version(room)
    payload = trust.offered_set(stage().envelope, JOB_TYPE)
    assert json.dumps(payload, sort_keys=True) == json.dumps(room.keyring.envelope, sort_keys=True)


def test_past_development_a_host_follows_its_channel(room) -> None:
    host = make_host(environment="production")
    room.publish()
    with pytest.raises(Refused, match="channel production of demo leads nowhere"):
        choose_version(room.store, host, PRODUCTION)
    raise_version(room)
    room.publish("0.2.0", cmdline="debug")
    assert choose_version(room.store, host, PRODUCTION) == "0.1.0"
    assert choose_version(room.store, make_host(), make_environment()) == "0.2.0"
