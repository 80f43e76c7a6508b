"""What a role may declare as inputs of a host."""

import pytest
from pydantic import ValidationError

from qtrade.manifest import RoleInputs

pytestmark = pytest.mark.unit


def test_a_value_without_default_is_required() -> None:
    inputs = RoleInputs.model_validate({"values": {"a": {"type": "str"}, "b": {"type": "str", "default": None}}})
    assert (inputs.values["a"].required, inputs.values["b"].required) == (True, False)


def test_what_was_written_comes_back_equal() -> None:
    inputs = RoleInputs.model_validate({"values": {"a": {"type": "str"}, "b": {"type": "int", "default": 1}}})
    assert RoleInputs.model_validate_json(inputs.model_dump_json()) == inputs


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", ".hidden", ""])
def test_paths_stay_in_the_generation(path) -> None:
    with pytest.raises(ValidationError):
        RoleInputs.model_validate({"files": [{"path": path}]})


@pytest.mark.parametrize("values", [{}, {"keys": {"type": "list"}}])
def test_each_names_a_mapping(values) -> None:
    with pytest.raises(ValidationError, match="each names keys, which is no value of type dict"):
        RoleInputs.model_validate({"files": [{"path": "k/{key}", "each": "keys"}], "values": values})


@pytest.mark.parametrize("name", ["Token", "1x", "a-b", "a"])
def test_names_of_secrets_fit_the_credential_store(name) -> None:
    with pytest.raises(ValidationError):
        RoleInputs.model_validate({"secrets": [{"name": name}]})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"type": "str", "default": "live", "choices": ["paper"]}, "the default is 'live', not one of paper"),
        ({"type": "list", "default": ["1", "x"], "pattern": "[0-9]+"}, "the default is 'x', which does not match"),
        ({"type": "str", "default": "a", "pattern": "("}, "is no regular expression"),
    ],
)
def test_a_default_that_does_not_fit_its_own_value_is_refused(value, words) -> None:
    with pytest.raises(ValidationError) as caught:
        RoleInputs.model_validate({"values": {"a": value}})
    assert words in str(caught.value)
