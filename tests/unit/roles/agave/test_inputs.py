"""What a host may tell the validator, before a push sends it."""

from pathlib import Path

import pytest
import yaml

from flash.config import render_bundle
from qtrade.errors import BadInput
from qtrade.manifest import RoleInputs
from tests.fakes.examples import make_environment, make_host, make_image

pytestmark = pytest.mark.unit

CONFIG = Path(__file__).resolve().parents[4] / "ansible/roles/agave/config"


def render(**config: object) -> None:
    inputs = yaml.safe_load((CONFIG / "inputs.yml").read_text())
    for file in inputs["files"]:
        file["template"] = (CONFIG / f"templates/{file['path']}.j2").read_text()
    image = make_image(inputs={"agave": RoleInputs.model_validate(inputs)})
    render_bundle(make_host(config=config), make_environment(config={}), image)


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "192.0.2.7"])
def test_json_rpc_binds_to_an_ipv4_address(bind: str) -> None:
    render(agave_rpc_bind=bind)


@pytest.mark.parametrize("bind", ["::", "[::]", "::1", "2001:db8::7", "rpc.example.org", ""])
def test_what_the_validator_would_not_start_with_is_refused(bind: str) -> None:
    with pytest.raises(BadInput, match=r"config\.agave_rpc_bind"):
        render(agave_rpc_bind=bind)
