"""Config bundles: the files that an image declares, from the values of environment and host."""

import base64
from typing import Any

import pytest

from flash.config import render_bundle
from qtrade.errors import BadInput
from qtrade.manifest import RoleInputs
from qtrade.signing import BUNDLE_TYPE, ensure_key, open_envelope
from tests.fakes.examples import make_environment, make_host, make_image

pytestmark = pytest.mark.unit

INPUTS = {
    "files": [
        {
            "path": "app/app.env",
            "mode": "0640",
            "group": "sol",
            "template": "PORT={{ app_port }}\n{% if app_debug %}\nDEBUG=1\n{% endif %}\nHOST={{ host }}\n",
        },
        {"path": "ssh/{key}", "each": "app_keys", "template": "{{ key }}: {{ item | join(',') }}\n"},
    ],
    "values": {
        "app_port": {"type": "int"},
        "app_debug": {"type": "bool", "default": False},
        "app_name": {"type": "str", "default": "x"},
        "app_peers": {"type": "list", "default": []},
        "app_keys": {"type": "dict", "default": {}},
        "app_mode": {"type": "str", "default": "paper", "choices": ["paper", "live"]},
        "app_nets": {"type": "list", "default": [], "pattern": "[0-9./]+"},
    },
}


def bundle(config: dict[str, Any], environment: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None):
    image = make_image(inputs={"app": RoleInputs.model_validate(inputs or INPUTS)})
    return render_bundle(make_host(config=config), make_environment(config=environment or {}), image)


def contents(made) -> dict[str, str]:
    return {file.path: file.content for file in made.files}


def test_files_are_rendered_with_the_hosts_values() -> None:
    made = bundle({"app_port": 8899, "app_debug": True})
    (file,) = made.files
    assert (file.path, file.mode, file.owner, file.group) == ("app/app.env", "0640", "root", "sol")
    assert file.content == "PORT=8899\nDEBUG=1\nHOST=rpc-1\n"


def test_values_of_the_host_stand_above_those_of_the_environment() -> None:
    assert "PORT=1\n" in contents(bundle({}, {"app_port": 1}))["app/app.env"]
    assert "PORT=2\n" in contents(bundle({"app_port": 2}, {"app_port": 1}))["app/app.env"]


def test_a_value_of_the_environment_that_this_image_does_not_know_is_for_other_images() -> None:
    assert bundle({"app_port": 1}, {"other_image": 1}).files


def test_each_gives_one_file_per_key_sorted_by_path() -> None:
    made = bundle({"app_port": 1, "app_keys": {"operator": ["k1", "k2"], "deploy": ["k3"]}})
    assert list(contents(made)) == ["app/app.env", "ssh/deploy", "ssh/operator"]
    assert contents(made)["ssh/operator"] == "operator: k1,k2\n"


def test_each_over_a_value_that_nobody_gave_gives_no_file() -> None:
    values = {**INPUTS["values"], "app_keys": {"type": "dict", "default": None}}
    assert list(contents(bundle({"app_port": 1}, inputs={**INPUTS, "values": values}))) == ["app/app.env"]


def test_an_unknown_value_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(BadInput, match=r"host rpc-1: config\.app_prt is no value that demo 0\.1\.0 knows") as caught:
        bundle({"app_prt": 1})
    assert caught.value.details == "known: app_debug, app_keys, app_mode, app_name, app_nets, app_peers, app_port"
    assert caught.value.exit_code == 3


def test_a_missing_value_is_refused_with_its_type() -> None:
    with pytest.raises(BadInput, match=r"config\.app_port is missing") as caught:
        bundle({})
    assert "config.app_port (int)" in caught.value.resolution


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("app_port", "8899"),
        ("app_port", True),
        ("app_port", 1.5),
        ("app_debug", 1),
        ("app_debug", "yes"),
        ("app_name", 7),
        ("app_peers", "a,b"),
        ("app_keys", ["a"]),
    ],
)
def test_a_value_of_another_type_is_refused(name, value) -> None:
    with pytest.raises(BadInput, match=rf"config\.{name} is {value!r}, not a ".replace("[", r"\[").replace("]", r"\]")):
        bundle({"app_port": 1, name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("app_mode", "LIVE", "is 'LIVE', not one of paper, live"),
        ("app_mode", "", "is '', not one of"),
        ("app_nets", ["10.0.0.0/8", "any\n"], r"is 'any\\n', which does not match"),
        ("app_nets", ["10.0.0.0/8\n"], r"is '10\.0\.0\.0/8\\n', which does not match"),
    ],
)
def test_a_value_outside_of_what_is_declared_is_refused(name, value, words) -> None:
    with pytest.raises(BadInput, match=rf"config\.{name} {words}"):
        bundle({"app_port": 1, name: value})
    assert bundle({"app_port": 1, "app_mode": "live", "app_nets": ["10.0.0.0/8"]})


@pytest.mark.parametrize("template", ["{{ ghost }}", "{% if %}", "{{ app_port + 'x' }}", "{{ app_port | join }}"])
def test_a_template_that_fails_is_named(template) -> None:
    inputs = {**INPUTS, "files": [{"path": "app/x", "template": template}]}
    with pytest.raises(BadInput, match="app/x cannot be rendered for host rpc-1"):
        bundle({"app_port": 1}, inputs=inputs)


def test_the_digest_is_stable_and_does_not_depend_on_the_order_of_values() -> None:
    one = bundle({"app_port": 1, "app_debug": True})
    two = bundle({"app_debug": True}, {"app_port": 1})
    assert one.digest == two.digest
    assert one.digest != bundle({"app_port": 2, "app_debug": True}).digest


def test_the_digest_does_not_depend_on_the_generation_but_the_envelope_does(tmp_path) -> None:
    key, made = ensure_key(tmp_path, "job"), bundle({"app_port": 1})
    payloads = [open_envelope(made.envelope(number, key), BUNDLE_TYPE, (key.public,)) for number in (1, 2)]
    assert [payload.pop("generation") for payload in payloads] == [1, 2]
    assert payloads[0] == payloads[1]
    assert payloads[0]["host"] == "rpc-1"
    assert payloads[0]["image"] == made.image
    assert base64.b64decode(payloads[0]["files"][0]["content"]).decode().startswith("PORT=1\n")


CPUS = {
    "files": [{"path": "app/cpus", "template": "{{ app_cpus }}"}],
    "values": {
        "app_cpus": {"type": "list", "default": [], "apart_from": ["xdp_cores", "not_in_this_image"]},
        "xdp_cores": {"type": "str", "default": ""},
    },
}


@pytest.mark.parametrize(
    ("own", "others", "shared"),
    [([2, 3], "3", "3"), (["4"], "2-3,4", "4"), ([1, 2, 3], "2-8", "2, 3"), ([0], "0", "0")],
)
def test_cpus_that_are_taken_are_refused(own, others, shared) -> None:
    with pytest.raises(BadInput) as caught:
        bundle({"app_cpus": own, "xdp_cores": others}, inputs=CPUS)
    assert f"config.app_cpus and config.xdp_cores both name CPU {shared}" in str(caught.value)


@pytest.mark.parametrize(("own", "others"), [([], ""), ([1, 12], "2-11"), ([3], ""), ([], "0-63")])
def test_cpus_apart_are_taken(own, others) -> None:
    assert bundle({"app_cpus": own, "xdp_cores": others}, inputs=CPUS).files


REFERENCES = {
    "values": {
        "app_entrypoints": {"type": "list", "default": []},
        "app_references": {"type": "list", "default": [], "needed_with": ["not_in_this_image", "app_entrypoints"]},
    },
}


def references(environment: str, **config: Any):
    image = make_image(inputs={"app": RoleInputs.model_validate(REFERENCES)})
    return render_bundle(make_host(config=config), make_environment(name=environment), image)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_what_another_value_needs_is_missed_past_development(environment) -> None:
    with pytest.raises(BadInput) as caught:
        references(environment, app_entrypoints=["e:8001"])
    assert str(caught.value).startswith(
        f"host rpc-1: config.app_entrypoints is set, and config.app_references is not: in {environment} it has to be"
    )
    assert "set config.app_references (list)" in caught.value.resolution
    references(environment, app_entrypoints=["e:8001"], app_references=["http://192.0.2.1:8899"])
    references(environment)


def test_in_development_a_host_may_do_without() -> None:
    references("development", app_entrypoints=["e:8001"])
