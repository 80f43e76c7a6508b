"""What a host's values have to be together, by the role's own declaration."""

import pytest
import yaml

from flash.config import render_bundle
from qtrade.errors import BadInput
from qtrade.manifest import RoleInputs
from tests.fakes.examples import make_environment, make_host, make_image
from tests.unit.roles.agave.conftest import ROLE

pytestmark = pytest.mark.unit

ONLINE = {"agave_entrypoints": ["e:8001"], "agave_known_validators": ["k"], "agave_expected_genesis_hash": "g"}


def render(environment: str, **config: object) -> None:
    document = yaml.safe_load((ROLE / "config/inputs.yml").read_text())
    for file in document["files"]:
        file["template"] = (ROLE / "config/templates" / f"{file['path']}.j2").read_text()
    image = make_image(inputs={"agave": RoleInputs.model_validate(document)})
    render_bundle(make_host(config=config), make_environment(name=environment), image)


def test_a_host_of_production_that_follows_a_cluster_has_somebody_to_compare_with() -> None:
    """Else healthy would be what the validator says of itself."""
    with pytest.raises(BadInput, match=r"agave_entrypoints is set, and config\.agave_reference_rpcs is not") as caught:
        render("production", **ONLINE)
    assert "set config.agave_reference_rpcs (list) in the host's" in caught.value.resolution
    render("production", **ONLINE, agave_reference_rpcs=["https://rpc.example"])
    render("development", **ONLINE)
