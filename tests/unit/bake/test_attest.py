"""A bake says of its image, once, what it was made from, what is in it and what it passed."""

import json

import pytest

from bake.attest import attest_bake
from qtrade.store import LocalStore
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.statements import verify_statements
from tests.fakes.examples import make_settings
from tests.fakes.inventories import cache_inventory, inventory, paragraph, status

pytestmark = pytest.mark.unit


def test_everything_is_attested_once(tmp_path) -> None:
    settings = make_settings(tmp_path)
    image = cache_inventory(settings, inventory(status(paragraph("openssl", "3.5.1-1")), version="0.1.0"))
    keyring, store = ensure_keyring(settings), LocalStore(settings.store)
    for started in (1, 2):
        attest_bake(settings, store, keyring, image, resolved=list, started=started, ran=7)
    found = verify_statements(image.id, store.attestations(image.id), keyring.trust)
    assert [one["runDetails"]["metadata"]["startedOn"] for one in found.provenance] == ["1970-01-01T00:00:01Z"]
    # The project of this test is in no checkout, which nobody can fetch again.
    source = found.provenance[0]["buildDefinition"]["internalParameters"]["source"]
    assert source == {"commit": "", "dirty": True}
    (test,) = found.tests
    assert (test.kind, test.passed, test.ran, test.failures) == ("layer", True, 7, ())
    (sbom,) = found.sboms
    components = json.loads(store.document(sbom.cyclonedx))["components"]
    assert "openssl" in {component["name"] for component in components}
    assert json.loads(store.document(sbom.spdx))["spdxVersion"] == "SPDX-2.3"
    assert found.ignored == ()


def test_that_a_second_bake_gave_the_same_bytes_is_attested_once_and_told(tmp_path) -> None:
    settings = make_settings(tmp_path)
    image = cache_inventory(settings, inventory(status(paragraph("openssl", "3.5.1-1")), version="0.1.0"))
    keyring, store = ensure_keyring(settings), LocalStore(settings.store)

    def passed() -> tuple[str, ...]:
        return verify_statements(image.id, store.attestations(image.id), keyring.trust).tests_passed()

    attest_bake(settings, store, keyring, image, resolved=list, started=1, ran=7)
    assert passed() == ("layer",)
    for _ in range(2):
        attest_bake(settings, store, keyring, image, resolved=list, started=2, ran=7, verified=True)
    assert passed() == ("layer", "reproducible")
    assert len(verify_statements(image.id, store.attestations(image.id), keyring.trust).tests) == 2


def test_two_versions_of_the_same_bytes_have_two_histories(tmp_path) -> None:
    settings = make_settings(tmp_path)
    image = cache_inventory(settings, inventory(status(paragraph("openssl", "3.5.1-1")), version="0.1.0"))
    keyring, store = ensure_keyring(settings), LocalStore(settings.store)
    for version in ("0.1.0", "0.2.0"):
        attest_bake(
            settings, store, keyring, image.model_copy(update={"version": version}), resolved=list, started=3, ran=7
        )
    found = verify_statements(image.id, store.attestations(image.id), keyring.trust)
    assert (len(found.provenance), len(found.tests), len(found.sboms)) == (2, 1, 1)
