"""What a host lets in by itself, whatever its controller says."""

import hashlib
import json

import pytest

from flash.agent import admission, images, trust
from flash.agent.errors import AgentError
from flash.agent.job import parse_job

pytestmark = pytest.mark.unit

NOW = 1_900_000_000
REAL = json.dumps({"version": "1.0", "components": [{"name": "agave", "standin": False}]})


@pytest.fixture
def known(make_trust, root):
    return trust.open_pinned(make_trust(), root.key_id)


@pytest.fixture
def made(job_fields):
    parsed = parse_job(json.dumps(job_fields()).encode()).image
    assert parsed is not None
    return parsed._replace(image_json=REAL)


@pytest.fixture
def promote(made, promoter):
    """Return a maker of the image with its promotion to production, with changes of statement or predicate."""

    def make(signer=promoter, image_id=made.image_id, kind=admission.PROMOTION, text=REAL, **changes):
        described = hashlib.sha256(REAL.encode()).hexdigest()
        predicate = {"channel": "production", "sequence": 7, "expires": NOW + 1, "by": "x", "image_json": described}
        document = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "list", "digest": {"sha256": image_id}}],
            "predicateType": kind,
            "predicate": {**predicate, **changes},
        }
        envelope = signer.envelope(admission.STATEMENT_TYPE, document)
        return made._replace(promotion=envelope, image_json=text)

    return make


def refusal(image, known, environment="production", now=NOW):
    with pytest.raises(AgentError) as caught:
        admission.require_admitted(image, known, environment, now)
    return caught.value.code


def test_development_asks_for_a_build_signature_only(made, known, make_trust, root, other_key):
    assert admission.require_admitted(made, known, "development", NOW) == 0
    others = trust.open_pinned(make_trust(build={other_key.key_id: other_key.pem}), root.key_id)
    assert refusal(made, others, "development") == "image-untrusted"
    assert refusal(made._replace(signature=bytes(64)), known, "development") == "image-untrusted"


def test_a_retired_key_still_counts_and_a_revoked_one_is_called_so(made, make_trust, root, key, other_key):
    new = {other_key.key_id: other_key.pem}
    old = {key.key_id: key.pem}
    retired = trust.open_pinned(make_trust(build=new, job=new, retired={"build": old, "promote": {}}), root.key_id)
    admission.require_admitted(made, retired, "development", NOW)
    revoked = trust.open_pinned(make_trust(build=new, job=new, revoked=old), root.key_id)
    assert refusal(made, revoked, "development") == "key-revoked"


def test_production_takes_what_was_promoted_to_it(promote, known):
    assert admission.require_admitted(promote(), known, "production", NOW) == 7


def test_production_counts_operators_where_the_root_says_how_many(promote, make_trust, root, promoter, other_key):
    both = {promoter.key_id: promoter.pem, other_key.key_id: other_key.pem}
    two = trust.open_pinned(make_trust(promote=both, promotion_keys=2), root.key_id)
    one, other = promote().promotion, promote(signer=other_key).promotion
    assert refusal(promote(), two) == "image-not-promoted"
    # What was installed when one was enough can be gone back to.
    assert admission.require_admitted(promote(), two, "production") == 7

    def signed(*signatures):
        return promote()._replace(promotion={**one, "signatures": list(signatures)})

    mine, hers = one["signatures"][0], other["signatures"][0]
    assert admission.require_admitted(signed(mine, hers), two, "production", NOW) == 7
    assert refusal(signed(mine, mine), two) == "image-not-promoted"
    assert refusal(signed(mine, {**hers, "sig": mine["sig"]}), two) == "image-not-promoted"
    # A key that was revoked since is none any more.
    gone = make_trust(
        promote={promoter.key_id: promoter.pem}, revoked={other_key.key_id: other_key.pem}, promotion_keys=2
    )
    assert refusal(signed(mine, hers), trust.open_pinned(gone, root.key_id)) == "image-not-promoted"


@pytest.mark.parametrize("number", ["2", True, -1, None])
def test_a_set_that_says_how_many_in_another_form_is_none(make_trust, root, number):
    with pytest.raises(AgentError, match="promotion_keys"):
        trust.open_pinned(make_trust(promotion_keys=number), root.key_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"channel": "staging"},
        {"expires": NOW},
        {"image_id": "0" * 64},
        {"kind": "https://github.com/qtrade/qtrade/attestation/test/v1"},
        {"text": REAL.replace("1.0", "9.9")},
        {"sequence": "x"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_production_refuses_any_other_promotion(promote, known, changes):
    assert refusal(promote(**changes), known) == "image-not-promoted"


def test_production_refuses_an_image_without_promotion_or_by_another_key(made, promote, known, key):
    assert refusal(made, known) == "image-not-promoted"
    # The build key alone is not enough: production needs both.
    assert refusal(promote(signer=key), known) == "signature-untrusted"


def test_expiry_counts_for_what_is_new_only(promote, known):
    expired = promote(expires=NOW - 1)
    assert refusal(expired, known) == "image-not-promoted"
    assert admission.require_admitted(expired, known, "production") == 7


def test_production_refuses_standins_though_they_are_promoted(promote, known):
    text = REAL.replace("false", "true")
    image = promote(text=text, image_json=hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(AgentError, match="holds stand-ins: agave") as caught:
        admission.require_admitted(image, known, "production", NOW)
    assert caught.value.code == "image-standin"


def test_keys_of_a_lab_count_in_development_only(promote, make_trust, root):
    lab = trust.open_pinned(make_trust(lab=True), root.key_id)
    assert refusal(promote(), lab) == "trust-lab"
    assert refusal(promote(), lab, "staging") == "trust-lab"
    admission.require_admitted(promote(), lab, "development", NOW)


def test_what_a_host_demands_is_raised_and_never_lowered(tmp_path):
    assert admission.read_environment(tmp_path) == "production", "a host that does not know must be strict"
    admission.write_environment(tmp_path, "development")
    assert admission.read_environment(tmp_path) == "development"
    assert admission.stricter("development", "production") == "production"
    assert admission.stricter("production", "development") == "production"
    assert admission.stricter("staging", "") == "staging"


def test_the_sequence_of_an_installed_image_is_that_of_its_promotion(tmp_path, promote, made, known):
    images.write_image(tmp_path, promote())
    assert admission.sequence_of(tmp_path, made.image_id, known) == 7
    (tmp_path / "images" / made.image_id / "promotion.json").unlink()
    assert admission.sequence_of(tmp_path, made.image_id, known) == 0
    assert admission.is_trusted(tmp_path, made.image_id, known)
    assert not admission.is_trusted(tmp_path, "0" * 64, known)
