"""Manifests of staked identities: references only, and enough references to trust them."""

import pytest

from qtrade.errors import BadInput
from qtrade.manifest import Identity, load_manifest

pytestmark = pytest.mark.unit

FIELDS = {
    "schema_version": "1",
    "name": "main",
    "environment": "production",
    "address": "Vote111111111111111111111111111111111111111",
    "vote_account": "Stake11111111111111111111111111111111111111",
    "keypair": "vault:secrets.yml#main",
    "hosts": "[val-1, val-2]",
    "reference_rpcs": "['https://a.example', 'https://b.example']",
}


def load(tmp_path, **changes) -> Identity:
    path = tmp_path / "main.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in {**FIELDS, **changes}.items()))
    return load_manifest(Identity, path)


def test_it_is_read(tmp_path) -> None:
    assert load(tmp_path).hosts == ("val-1", "val-2")
    assert load(tmp_path, environment="development", reference_rpcs="['http://127.0.0.1:1']").reference_rpcs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keypair": "'[1,2,3]'"}, "keypair"),
        ({"address": "0OIl"}, "address"),
        ({"hosts": "[]"}, "hosts"),
        ({"hosts": "[val-1, val-1]"}, "hosts names one twice"),
        ({"reference_rpcs": "['https://a.example']"}, "production needs two or more"),
        ({"reference_rpcs": "['ftp://a.example', 'https://b.example']"}, "reference_rpcs"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, said) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, **changes)
    assert said in caught.value.render()


@pytest.mark.parametrize("pasted", ["[11, 22, 33, 44]", "'[11, 22, 33, 44]'"])
def test_a_key_in_place_of_its_reference_is_not_shown(tmp_path, pasted) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, keypair=pasted)
    assert "keypair" in caught.value.render()
    assert "22" not in caught.value.render()
