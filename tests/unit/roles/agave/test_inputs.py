"""What a host may tell the validator, and what its values have to be together, before a push sends them."""

import pytest
import yaml

from flash.config import render_bundle
from qtrade.errors import BadInput
from qtrade.manifest import RoleInputs
from tests.fakes.examples import make_environment, make_host, make_image
from tests.unit.roles.agave.conftest import ROLE

pytestmark = pytest.mark.unit

ONLINE = {"agave_entrypoints": ["e:8001"], "agave_known_validators": ["k"], "agave_expected_genesis_hash": "g"}


def render(environment: str = "development", **config: object) -> None:
    document = yaml.safe_load((ROLE / "config/inputs.yml").read_text())
    for file in document["files"]:
        file["template"] = (ROLE / "config/templates" / f"{file['path']}.j2").read_text()
    image = make_image(inputs={"agave": RoleInputs.model_validate(document)})
    render_bundle(make_host(config=config), make_environment(name=environment, config={}), image)


def test_a_host_of_production_that_follows_a_cluster_has_somebody_to_compare_with() -> None:
    """Else healthy would be what the validator says of itself."""
    with pytest.raises(BadInput, match=r"agave_entrypoints is set, and config\.agave_reference_rpcs is not") as caught:
        render("production", **ONLINE)
    assert "set config.agave_reference_rpcs (list) in the host's" in caught.value.resolution
    render("production", **ONLINE, agave_reference_rpcs=["https://rpc.example"])
    render("development", **ONLINE)


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "192.0.2.7"])
def test_json_rpc_binds_to_an_ipv4_address(bind: str) -> None:
    render(agave_rpc_bind=bind)


@pytest.mark.parametrize("bind", ["::", "[::]", "::1", "2001:db8::7", "rpc.example.org", ""])
def test_what_the_validator_would_not_start_with_is_refused(bind: str) -> None:
    with pytest.raises(BadInput, match=r"config\.agave_rpc_bind"):
        render(agave_rpc_bind=bind)
