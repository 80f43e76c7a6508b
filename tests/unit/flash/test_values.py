"""A host's values: who gives them, and which one counts. What is refused is in test_config.py."""

from typing import Any

import pytest

from flash.values import Given, Resolved, resolve_values
from qtrade.errors import BadInput
from qtrade.manifest import RoleInputs
from tests.fakes.examples import make_environment, make_host, make_image

pytestmark = pytest.mark.unit

INPUTS = {
    "values": {
        "app_port": {"type": "int", "default": 1},
        "app_name": {"type": "str"},
        "app_note": {"type": "str", "required": False},
    },
}


def resolve(host: dict[str, Any], **environment: Any) -> dict[str, Resolved]:
    image = make_image(inputs={"app": RoleInputs.model_validate(INPUTS)})
    return resolve_values(make_host(config=host), make_environment(**environment), image)


def test_all_places_that_give_a_value_are_known_and_the_highest_counts() -> None:
    found = resolve(
        {"app_port": 4, "app_name": "x"},
        config={"app_port": 2},
        roles={"rpc": {"app_port": 3}, "validator": {"app_port": 9}},
    )
    assert found["app_port"].given == (
        Given("default of app", 1),
        Given("environment development: config", 2),
        Given("environment development: roles.rpc", 3),
        Given("host rpc-1: config", 4),
    )
    assert (found["app_port"].value, found["app_port"].role) == (4, "app")
    assert found["app_name"].given == (Given("host rpc-1: config", "x"),)


@pytest.mark.parametrize(
    ("environment", "value"),
    [
        ({}, 1),
        ({"config": {"app_port": 2}}, 2),
        ({"roles": {"rpc": {"app_port": 3}}}, 3),
        ({"roles": {"validator": {"app_port": 9}}}, 1),
        ({"config": {"app_port": 2}, "roles": {"rpc": {"app_port": 3}}}, 3),
    ],
)
def test_the_values_of_a_role_stand_above_those_of_all_hosts(environment, value) -> None:
    assert resolve({"app_name": "x"}, **environment)["app_port"].value == value


def test_a_value_that_nobody_has_to_give_is_none() -> None:
    assert resolve({"app_name": "x"})["app_note"].value is None


def test_a_wrong_value_is_refused_with_the_place_that_gives_it() -> None:
    with pytest.raises(BadInput, match=r"config\.app_port is 'x', not a int") as caught:
        resolve({"app_name": "x"}, roles={"rpc": {"app_port": "x"}})
    assert caught.value.details == "it comes from environment development: roles.rpc"


def test_a_value_of_a_role_that_this_image_does_not_know_is_for_other_images() -> None:
    assert "other" not in resolve({"app_name": "x"}, roles={"rpc": {"other": 1}})
