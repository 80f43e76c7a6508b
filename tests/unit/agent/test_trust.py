"""The trust set as a host takes it: only from its root, only newer ones, and never with a key that is revoked."""

import base64
import json

import pytest

from flash.agent import trust
from flash.agent.errors import AgentError

pytestmark = pytest.mark.unit

NOW = 1_900_000_000


@pytest.fixture
def held(make_trust, root):
    return trust.open_pinned(make_trust(), root.key_id)


def code_of(held, offered, now=NOW):
    with pytest.raises(AgentError) as caught:
        trust.choose(held, offered, now)
    return caught.value.code


def test_a_set_is_read_by_role(make_trust, root, key, promoter, other_key):
    retired = {"build": {other_key.key_id: other_key.pem}, "promote": {}}
    found = trust.open_pinned(make_trust(retired=retired), root.key_id)
    assert found.builders == {key.key_id: key.raw, other_key.key_id: other_key.raw}
    assert (found.promoters, found.job) == ({promoter.key_id: promoter.raw}, {key.key_id: key.raw})
    assert (found.sequence, found.expires, found.lab) == (3, 4_000_000_000, False)


def test_only_the_pinned_root_may_sign(make_trust, root, other_key):
    with pytest.raises(AgentError, match="no trusted key"):
        trust.open_pinned(make_trust(), other_key.key_id)
    # A stranger may name himself a root in his own set; the pin still names another.
    both = {root.key_id: root.pem, other_key.key_id: other_key.pem}
    with pytest.raises(AgentError, match="no trusted key"):
        trust.open_pinned(make_trust(signer=other_key, root=both), root.key_id)


def test_a_newer_set_of_the_same_root_is_taken(held, make_trust):
    assert trust.choose(held, make_trust(sequence=4), NOW).sequence == 4
    assert trust.choose(held, None, NOW) is held
    assert trust.choose(held, make_trust(), NOW) is held


def test_older_forked_foreign_and_expired_sets_are_refused(held, make_trust, other_key):
    assert code_of(held, make_trust(sequence=2)) == "trust-older"
    assert code_of(held, make_trust(lab=True)) == "trust-fork"
    own_root = {other_key.key_id: other_key.pem}
    assert code_of(held, make_trust(signer=other_key, sequence=4, root=own_root)) == "signature-untrusted"
    assert code_of(held, make_trust(sequence=4, expires=NOW)) == "trust-expired"


def test_a_root_hands_over_to_the_next(held, make_trust, root, other_key):
    follower = make_trust(signer=root, sequence=4, root={other_key.key_id: other_key.pem})
    taken = trust.choose(held, follower, NOW)
    assert trust.choose(taken, make_trust(signer=other_key, sequence=5, root={other_key.key_id: other_key.pem}), NOW)
    # The old root has no say any more.
    assert code_of(taken, make_trust(signer=root, sequence=5)) == "signature-untrusted"


def test_an_expired_set_lets_nothing_new_in(held):
    held.require_fresh(held.expires - 1)
    with pytest.raises(AgentError, match="expired at 4000000000"):
        held.require_fresh(held.expires)


def test_what_the_host_keeps_is_what_was_signed(tmp_path, held):
    with pytest.raises(AgentError, match="install the host") as caught:
        trust.read_held(tmp_path)
    assert caught.value.code == "trust-missing"
    trust.write_held(tmp_path, held)
    assert trust.read_held(tmp_path) == held


def test_the_set_of_a_job_is_found_before_its_signature_is_checked(make_trust, job_fields, key):
    envelope = key.envelope("application/vnd.qtrade.job+json", job_fields())
    assert trust.offered_set(envelope, "application/vnd.qtrade.job+json") == make_trust()
    without = key.envelope("application/vnd.qtrade.job+json", job_fields(trust=None))
    assert trust.offered_set(without, "application/vnd.qtrade.job+json") is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"sequence": "4"}, "sequence is '4'"),
        ({"sequence": True}, "sequence is True"),
        ({"build": {"0" * 64: "no key"}}, "not an Ed25519 public key"),
        ({"build": ["x"]}, "build is no mapping"),
        ({"lab": "no"}, "lab is of another type"),
        ({"retired": []}, "retired"),
    ],
)
def test_a_malformed_set_is_named(make_trust, root, changes, says):
    with pytest.raises(AgentError, match=says):
        trust.open_pinned(make_trust(**changes), root.key_id)


def test_a_key_under_a_wrong_name_or_in_two_places_is_refused(make_trust, root, key, other_key):
    with pytest.raises(AgentError, match="another id"):
        trust.open_pinned(make_trust(build={other_key.key_id: key.pem}), root.key_id)
    with pytest.raises(AgentError, match="revoked and trusted at once"):
        trust.open_pinned(make_trust(revoked={key.key_id: key.pem}), root.key_id)


def test_an_altered_set_is_refused(make_trust, root):
    envelope = make_trust()
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["sequence"] = 99
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(AgentError, match="no trusted key"):
        trust.open_pinned(envelope, root.key_id)
