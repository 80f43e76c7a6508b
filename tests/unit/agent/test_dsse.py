import base64

import pytest

from flash.agent import dsse
from flash.agent.errors import AgentError

pytestmark = pytest.mark.unit

TYPE = "application/vnd.qtrade.job+json"


def test_pae_is_that_of_the_specification():
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_opens_what_a_trusted_key_signed(key):
    opened = dsse.open_envelope(key.envelope(TYPE, {"a": 1}), TYPE, {key.key_id: key.raw})
    assert opened == dsse.Opened(b'{"a": 1}', key.key_id)


def test_one_good_signature_among_others_is_enough(key, other_key):
    envelope = key.envelope(TYPE, {"a": 1})
    envelope["signatures"].insert(0, other_key.envelope(TYPE, {"a": 1})["signatures"][0])
    assert dsse.open_envelope(envelope, TYPE, {key.key_id: key.raw}).key_id == key.key_id


def test_untrusted_key_is_refused_and_named(key, other_key):
    with pytest.raises(AgentError, match=other_key.key_id[:16]) as caught:
        dsse.open_envelope(other_key.envelope(TYPE, {}), TYPE, {key.key_id: key.raw})
    assert caught.value.code == "signature-untrusted"


def test_signature_of_another_key_under_a_trusted_id_is_refused(key, other_key):
    envelope = other_key.envelope(TYPE, {})
    envelope["signatures"][0]["keyid"] = key.key_id
    with pytest.raises(AgentError, match="no trusted key"):
        dsse.open_envelope(envelope, TYPE, {key.key_id: key.raw})


def test_changed_payload_is_refused(key):
    envelope = {**key.envelope(TYPE, {"a": 1}), "payload": base64.b64encode(b'{"a": 2}').decode()}
    with pytest.raises(AgentError, match="no trusted key"):
        dsse.open_envelope(envelope, TYPE, {key.key_id: key.raw})


def test_other_payload_type_is_refused(key):
    """A bundle must not pass for a job, although the same key signs both."""
    with pytest.raises(AgentError, match="payload type"):
        dsse.open_envelope(key.envelope("application/vnd.qtrade.bundle+json", {}), TYPE, {key.key_id: key.raw})


@pytest.mark.parametrize("envelope", [None, [], {}, {"payloadType": TYPE}, {"payloadType": TYPE, "payload": 1}, "x"])
def test_malformed_envelope_is_refused(envelope, key):
    with pytest.raises(AgentError) as caught:
        dsse.open_envelope(envelope, TYPE, {key.key_id: key.raw})
    assert caught.value.code == "envelope-invalid"


def test_no_signature_is_refused(key):
    with pytest.raises(AgentError, match="signed by none"):
        dsse.open_envelope({**key.envelope(TYPE, {}), "signatures": []}, TYPE, {key.key_id: key.raw})


def test_keys_must_be_ed25519():
    with pytest.raises(AgentError, match="not an Ed25519"):
        dsse.load_keys(("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",))
