"""Errors of manifests name file, line, field, found value and cure."""

import pytest
import yaml

from qtrade.errors import BadInput, NotFound
from qtrade.manifest import Environment, Host, Recipe, load_manifest, load_text

pytestmark = pytest.mark.unit

RECIPE = """\
schema_version: 1
name: demo
epoch: 1763856000
base: {suite: trixie, kernel: linux-image-amd64, packages: [udev]}
cmdline: quiet
size_budget_mib: 100
components:
  agent: {kind: source, path: agent, version: "1"}
layers:
  - role: host
    needs: [base]
    components: [agent]
  - role: app
    needs: [host]
"""
HOST = """\
schema_version: 1
name: rpc-1
environment: development
role: rpc
recipe: demo
address: 192.0.2.10
driver: {kind: redfish, url: "https://192.0.2.11", system: "1", username: u, password_file: /keys/bmc}
doors: [in_place]
os_disk:
  serial: OS-1
  size_bytes: 4294967296
protected_disks:
  - serial: LEDGER-1
"""
ENVIRONMENT = "schema_version: 1\nname: production\nsoak_s: 1800\n"


def refusal(model, text: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        load_text(model, text, source="manifests/x.yaml")
    assert caught.value.exit_code == 3
    assert "manifests/x.yaml" in caught.value.brief
    assert caught.value.resolution
    return caught.value


@pytest.mark.parametrize(("model", "text"), [(Recipe, RECIPE), (Host, HOST), (Environment, ENVIRONMENT)])
def test_good_manifests_load(model, text) -> None:
    assert load_text(model, text, source="x").schema_version == 1


@pytest.mark.parametrize(
    ("model", "text", "line", "field", "found"),
    [
        (Recipe, RECIPE.replace("1763856000", "-5"), 3, "epoch", "found -5"),
        (Recipe, RECIPE.replace("suite: trixie", "suite: Trixie!"), 4, "base.suite", "found 'Trixie!'"),
        (Recipe, RECIPE.replace("role: app", "role: App"), 13, "layers.1.role", "found 'App'"),
        (Recipe, RECIPE + "    colour: red\n", 15, "layers.1.colour", "found 'red'"),
        (Recipe, RECIPE.replace("kind: source", "kind: git"), 8, "components.agent", "'git'"),
        (Host, HOST.replace("role: rpc", "role: king"), 4, "role", "found 'king'"),
        (Host, HOST.replace("4294967296", "many"), 11, "os_disk.size_bytes", "found 'many'"),
        (Host, HOST.replace("serial: LEDGER-1", "size_bytes: 1"), 13, "protected_disks.0", "serial or wwid"),
        (Environment, ENVIRONMENT.replace("1800", "-1"), 3, "soak_s", "found -1"),
        (Environment, ENVIRONMENT.replace("production", "moon"), 2, "name", "found 'moon'"),
    ],
)
def test_a_wrong_value_is_named_with_line_field_and_what_was_found(model, text, line, field, found) -> None:
    details = refusal(model, text).details
    assert f"manifests/x.yaml:{line}: {field}: " in details
    assert found in details


def test_a_field_behind_the_tag_of_a_union_has_its_own_line() -> None:
    text = RECIPE.replace(
        '  agent: {kind: source, path: agent, version: "1"}\n',
        '  agent:\n    kind: source\n    path: agent\n    version: "!"\n',
    )
    assert "manifests/x.yaml:11: components.agent.source.version: " in refusal(Recipe, text).details


def test_a_missing_field_is_named_at_the_line_of_its_parent_without_a_found_value() -> None:
    details = refusal(Recipe, RECIPE.replace("suite: trixie, ", "")).details
    assert details == "  manifests/x.yaml:4: base.suite: is required"


def test_all_wrong_fields_are_named_at_once() -> None:
    text = ENVIRONMENT.replace("production", "moon").replace("1800", "-1")
    assert len(refusal(Environment, text).details.splitlines()) == 2


def test_a_rule_over_the_whole_file_says_its_sentence_and_nothing_else() -> None:
    text = RECIPE.replace("needs: [host]", "needs: [ghost]")
    expected = "  manifests/x.yaml:1: layer app needs ghost, which no layer before it is"
    assert refusal(Recipe, text).details == expected


def test_a_key_that_stands_twice_is_refused() -> None:
    text = HOST + "protected_disks: []\n"
    assert "manifests/x.yaml:14: protected_disks: stands twice" in refusal(Host, text).details


def test_a_key_that_stands_twice_in_a_list_item_is_refused() -> None:
    text = RECIPE + "    needs: [base]\n"
    assert "manifests/x.yaml:15: needs: stands twice" in refusal(Recipe, text).details


@pytest.mark.parametrize("text", ["a: [", "", "- 1\n", "just words"])
def test_what_is_no_yaml_mapping_is_refused(text) -> None:
    refusal(Recipe, text)


def test_a_file_that_is_no_text_is_refused(tmp_path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(BadInput, match="is not text"):
        load_manifest(Environment, path)


def test_a_missing_file_lists_the_ones_that_are_there(tmp_path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.yaml").write_text(ENVIRONMENT)
    with pytest.raises(NotFound, match="does not exist") as caught:
        load_manifest(Environment, tmp_path / "c.yaml")
    assert caught.value.exit_code == 4
    assert caught.value.resolution == "use one of: a, b"


def test_a_file_loads_from_disk(tmp_path) -> None:
    (tmp_path / "production.yaml").write_text(ENVIRONMENT)
    assert load_manifest(Environment, tmp_path / "production.yaml").soak_s == 1800


@pytest.mark.parametrize(
    "drift",
    [
        {"webhook": {"url": "https://alerts.example.org", "secret": "hunter2-plain"}},
        {"webhook": {"url": "https://alerts.example.org", "secret": ["hunter2-plain"]}},
    ],
)
def test_a_secret_in_place_of_its_reference_is_not_shown(drift: dict[str, object]) -> None:
    text = yaml.safe_dump({"schema_version": 1, "name": "staging", "drift": drift})
    with pytest.raises(BadInput) as caught:
        load_text(Environment, text, source="staging.yaml")
    said = caught.value.render()
    assert "drift.webhook.secret: " in said
    assert "found what is no reference" in said
    assert "hunter2" not in said
