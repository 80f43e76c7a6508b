"""Whole plans of bakes, and which change makes which layers new."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest

from bake.plan import (
    INITRD,
    INSTALLER,
    Action,
    Change,
    Fields,
    Inputs,
    Step,
    base_fields,
    base_key,
    choose_all,
    choose_layers,
    compare,
    find_different,
    initramfs_key,
    key_of,
    kind_of,
    layer_fields,
    layer_key,
    plan_bake,
    step_fields,
)
from qtrade.manifest import ImageLayer, Recipe, RecipeLayer
from qtrade.store import BlobRecord
from tests.fakes.examples import make_image, make_inputs, make_recipe, recipe_fields, sha

pytestmark = pytest.mark.unit

ROLES = ("host", "app", "tool", "top")


@dataclass
class FakeStore:
    """Records by key and the fields of the last bake, filled as a bake of `recipe` would fill them."""

    records: dict[str, BlobRecord] = field(default_factory=dict)
    last: dict[str, Fields] = field(default_factory=dict)

    def find(self, key: str) -> BlobRecord | None:
        return self.records.get(key)

    def bake(self, recipe: Recipe, inputs: Inputs) -> None:
        keys = make_keys(recipe, inputs)
        base = base_record(recipe, inputs)
        self.records[base.key] = base
        for name in (INITRD, INSTALLER, *ROLES):
            self.records[keys[name]] = BlobRecord(keys[name], name, sha(f"bytes {keys[name]}"))
        self.last = {"base": base_fields(recipe, inputs), **step_fields(recipe, inputs, base)}

    def plan(self, recipe: Recipe, inputs: Inputs) -> tuple[Step, ...]:
        return plan_bake(recipe, inputs, self.find, self.last)


def base_record(recipe: Recipe, inputs: Inputs) -> BlobRecord:
    key = base_key(recipe, inputs)
    return BlobRecord(key, "base", sha(f"bytes {key}"), 1)


def make_keys(recipe: Recipe, inputs: Inputs) -> dict[str, str]:
    base = base_record(recipe, inputs)
    steps = step_fields(recipe, inputs, base)
    return {"base": base.key, **{name: key_of(kind_of(name), fields) for name, fields in steps.items()}}


@pytest.fixture
def store() -> FakeStore:
    store = FakeStore()
    store.bake(make_recipe(), make_inputs())
    return store


def with_role(inputs: Inputs, role: str) -> Inputs:
    return make_inputs(roles={**inputs.roles, role: {f"ansible/roles/{role}/tasks/main.yml": sha("changed")}})


def with_packages(part: str) -> Inputs:
    return make_inputs(packages={**make_inputs().packages, part: {"chrony:amd64": sha("other")}})


def with_version(kind: str) -> Inputs:
    versions = make_inputs().versions
    return make_inputs(versions={**versions, kind: {**versions[kind], "tools": sha("other tools")}})


def with_layer(role: str, **changes: Any) -> Recipe:
    layers = [{**layer, **changes} if layer["role"] == role else layer for layer in recipe_fields()["layers"]]
    return make_recipe(layers=layers)


def test_an_empty_store_has_everything_to_build() -> None:
    recipe, inputs = make_recipe(), make_inputs()
    rest = (INITRD, INSTALLER, *ROLES)
    assert FakeStore().plan(recipe, inputs) == (
        Step("base", Action.BUILD, base_key(recipe, inputs), "not in the store"),
        *(Step(name, Action.BUILD, "", "base changed") for name in rest),
    )


def test_nothing_changed_is_all_hits(store) -> None:
    recipe, inputs = make_recipe(), make_inputs()
    keys = make_keys(recipe, inputs)
    names = ("base", INITRD, INSTALLER, *ROLES)
    assert store.plan(recipe, inputs) == tuple(Step(name, Action.HIT, keys[name], "hit") for name in names)


def test_one_changed_role_is_built_with_those_that_stand_on_it(store) -> None:
    recipe, inputs = make_recipe(), with_role(make_inputs(), "app")
    before, keys = make_keys(recipe, make_inputs()), make_keys(recipe, inputs)
    path = "ansible/roles/app/tasks/main.yml"
    assert store.plan(recipe, inputs) == (
        Step("base", Action.HIT, keys["base"], "hit"),
        Step(INITRD, Action.HIT, keys[INITRD], "hit"),
        Step(INSTALLER, Action.HIT, keys[INSTALLER], "hit"),
        Step("host", Action.HIT, keys["host"], "hit"),
        Step("app", Action.BUILD, keys["app"], f"{path} changed", (Change(path, sha("app"), sha("changed")),)),
        Step("tool", Action.HIT, keys["tool"], "hit"),
        Step(
            "top",
            Action.BUILD,
            keys["top"],
            "app below it changed",
            (Change("needs.app", before["app"], keys["app"]),),
        ),
    )


def test_a_reason_names_two_inputs_and_counts_the_rest(store) -> None:
    recipe = with_layer("app", packages=["jq"], vars={"app_port": 2, "app_name": "x"})
    steps = {step.name: step for step in store.plan(recipe, make_inputs())}
    assert steps["app"].reason == "packages changed, vars.app_name is new, 1 more"
    assert steps["app"].changes == (
        Change("packages", "[]", '["jq"]'),
        Change("vars.app_name", None, '"x"'),
        Change("vars.app_port", "1", "2"),
    )


def test_an_input_that_is_gone_is_a_change() -> None:
    (change,) = compare({"a": "1", "b": "2"}, {"a": "1"})
    assert (change, str(change)) == (Change("b", "2", None), "b is gone")


def test_a_changed_base_says_what_of_it_changed(store) -> None:
    recipe = make_recipe(base={**BASE, "packages": ["udev", "jq"]})
    first, *rest = store.plan(recipe, make_inputs())
    assert first.reason == "base.packages changed"
    assert first.changes == (Change("base.packages", '["udev"]', '["udev", "jq"]'),)
    assert {step.reason for step in rest} == {"base changed"}


def test_a_layer_whose_blob_is_gone_is_built_again_without_a_change(store) -> None:
    keys = make_keys(make_recipe(), make_inputs())
    del store.records[keys["top"]]
    steps = store.plan(make_recipe(), make_inputs())
    assert [step for step in steps if step.action is Action.BUILD] == [
        Step("top", Action.BUILD, keys["top"], "not in the store")
    ]


def with_code(kind: str) -> Inputs:
    return make_inputs(code={**make_inputs().code, kind: {f"bake/{kind}.py": sha("changed")}})


def test_changed_files_of_the_initramfs_build_it_only(store) -> None:
    built = [step for step in store.plan(make_recipe(), with_code(INITRD)) if step.action is Action.BUILD]
    assert [(step.name, step.reason) for step in built] == [(INITRD, "bake/initrd.py changed")]


def test_another_recipe_shares_the_layers(store) -> None:
    steps = store.plan(make_recipe(name="other"), make_inputs())
    assert {step.action for step in steps} == {Action.HIT}


ALL = {"base", INITRD, INSTALLER, *ROLES}
BASE = {"suite": "trixie", "kernel": "linux-image-amd64", "packages": ["udev"]}

# A change of the recipe: what it makes new. Every field of a recipe and of its layers needs a line here.
RECIPE_CASES: dict[str, tuple[Callable[[], Recipe], set[str]]] = {
    "schema_version": (make_recipe, set()),
    "name": (lambda: make_recipe(name="other"), set()),
    "epoch": (lambda: make_recipe(epoch=1), ALL),
    "base.suite": (lambda: make_recipe(base={**BASE, "suite": "forky"}), ALL),
    "base.kernel": (lambda: make_recipe(base={**BASE, "kernel": "linux-image-rt-amd64"}), ALL),
    "base.packages": (lambda: make_recipe(base={**BASE, "packages": ["udev", "jq"]}), ALL),
    "cmdline": (lambda: make_recipe(cmdline="debug"), set()),
    "size_budget_mib": (lambda: make_recipe(size_budget_mib=1), set()),
    "lock": (lambda: make_recipe(lock="auto"), set()),
    "pins": (lambda: make_recipe(pins={"chrony": "4.6"}), set()),
    "components": (
        lambda: make_recipe(
            components={**recipe_fields()["components"], "new": {"kind": "source", "path": "x", "version": "1"}}
        ),
        set(),
    ),
    "layers.role": (
        lambda: make_recipe(layers=[*recipe_fields()["layers"][:3], {"role": "top2", "needs": ["app"]}]),
        {"top", "top2"},
    ),
    "layers.needs": (lambda: with_layer("tool", needs=["app"]), {"tool"}),
    "layers.packages": (lambda: with_layer("host", packages=["chrony", "jq"]), set(ROLES)),
    "layers.vars": (lambda: with_layer("app", vars={"app_port": 2}), {"app", "top"}),
    "layers.components": (lambda: with_layer("top", components=["parts", "agent"]), {"top"}),
    "layers.timeout_s": (lambda: with_layer("app", timeout_s=7), set()),
    "layers.toggles": (lambda: with_layer("app", toggles={"app_debug": True}), {"app", "top"}),
}
INPUT_CASES: dict[str, tuple[Callable[[], Inputs], set[str]]] = {
    "code.base": (lambda: with_code("base"), ALL),
    "code.layer": (lambda: with_code("layer"), set(ROLES)),
    "code.initrd": (lambda: with_code(INITRD), {INITRD}),
    "code.installer": (lambda: with_code(INSTALLER), {INSTALLER}),
    "roles": (lambda: with_role(make_inputs(), "host"), set(ROLES)),
    "components": (lambda: make_inputs(components={"agent": sha("agent"), "parts": sha("changed")}), {"top"}),
    **{
        f"versions.{kind}": (lambda kind=kind: with_version(kind), changed)
        for kind, changed in (
            ("base", ALL),
            ("layer", set(ROLES)),
            ("initrd", {"initrd"}),
            ("installer", {"installer"}),
        )
    },
    "packages.base": (lambda: with_packages("base"), ALL),
    "packages.layer": (lambda: with_packages("host"), set(ROLES)),
}


def changed_keys(recipe: Recipe, inputs: Inputs) -> set[str]:
    others = {item.name: getattr(inputs, item.name) for item in fields(Inputs) if item.name != "roles"}
    inputs_of_all = make_inputs(**others, roles={"top2": {"x": sha("role top2")}, **inputs.roles})
    before, after = make_keys(make_recipe(), make_inputs()), make_keys(recipe, inputs_of_all)
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


@pytest.mark.parametrize("case", RECIPE_CASES)
def test_a_changed_field_of_the_recipe_makes_these_new_and_no_others(case) -> None:
    make, expected = RECIPE_CASES[case]
    assert changed_keys(make(), make_inputs()) == expected


@pytest.mark.parametrize("case", INPUT_CASES)
def test_a_changed_input_makes_these_new_and_no_others(case) -> None:
    make, expected = INPUT_CASES[case]
    assert changed_keys(make_recipe(), make()) == expected


def test_every_field_that_a_bake_reads_has_a_case() -> None:
    assert {case.split(".")[0] for case in RECIPE_CASES} == set(Recipe.model_fields)
    assert {case.split(".")[1] for case in RECIPE_CASES if case.startswith("layers.")} == set(RecipeLayer.model_fields)
    of_base = set(Recipe.model_fields["base"].annotation.model_fields)
    assert {case.split(".")[1] for case in RECIPE_CASES if case.startswith("base.")} == of_base
    assert {case.split(".")[0] for case in INPUT_CASES} == {item.name for item in fields(Inputs)}
    assert {case.split(".")[1] for case in INPUT_CASES if case.startswith("code.")} == set(make_inputs().code)


def test_a_value_cannot_hide_as_a_toggle() -> None:
    as_value = with_layer("tool", vars={"x": True})
    as_toggle = with_layer("tool", toggles={"x": True})
    assert make_keys(as_value, make_inputs())["tool"] != make_keys(as_toggle, make_inputs())["tool"]


def test_other_locked_packages_make_their_layer_new_and_what_stands_on_it() -> None:
    assert changed_keys(make_recipe(), with_packages("host")) == set(ROLES)


def test_bytes_of_the_base_are_part_of_every_key() -> None:
    recipe, inputs = make_recipe(), make_inputs()
    base = base_record(recipe, inputs)
    other = BlobRecord(base.key, base.name, sha("other bytes"), base.size, facts=base.facts)
    fields_of = [layer_fields(recipe, "host", inputs, found, {}) for found in (base, other)]
    assert layer_key(fields_of[0]) != layer_key(fields_of[1])
    for name in (INITRD, INSTALLER):
        assert initramfs_key(name, recipe, inputs, base) != initramfs_key(name, recipe, inputs, other)


def test_the_two_initial_filesystems_never_share_a_key() -> None:
    recipe = make_recipe()
    inputs = make_inputs(code={**make_inputs().code, INITRD: {"x": sha("x")}, INSTALLER: {"x": sha("x")}})
    base = base_record(recipe, inputs)
    assert initramfs_key(INITRD, recipe, inputs, base) != initramfs_key(INSTALLER, recipe, inputs, base)


@pytest.mark.parametrize(
    ("choice", "built", "hits"),
    [
        (choose_all(make_recipe()), set(), {*ALL, "base"}),
        (choose_all(make_recipe(), from_scratch=True), {*ALL, "base"}, set()),
        (choose_layers(make_recipe(), "app", only=True), set(), {"base", "host", "app"}),
        (choose_layers(make_recipe(), "app", only=True, from_scratch=True), {"app"}, {"base", "host"}),
        (choose_layers(make_recipe(), "tool", only=False, from_scratch=True), {"host", "app", "tool"}, {"base"}),
    ],
    ids=["all", "all again", "one", "one again", "up to one, again"],
)
def test_a_choice_names_what_is_made_and_what_is_made_again(store, choice, built, hits) -> None:
    steps = plan_bake(make_recipe(), make_inputs(), store.find, store.last, choice)
    assert {step.name for step in steps if step.action is Action.BUILD} == built
    assert {step.name for step in steps if step.action is Action.HIT} == hits
    assert {step.reason for step in steps} <= {"hit", "from scratch"}


def test_code_and_epoch_are_part_of_a_layers_key_even_if_the_base_has_the_same_bytes() -> None:
    recipe, inputs = make_recipe(), make_inputs()
    base = base_record(recipe, inputs)
    keys = {
        layer_key(layer_fields(changed, "host", read, base, {}))
        for changed, read in ((recipe, inputs), (make_recipe(epoch=1), inputs), (recipe, with_code("layer")))
    }
    assert len(keys) == 3


def test_what_a_published_image_was_made_of_is_compared_before_a_bake() -> None:
    recipe, inputs = make_recipe(), make_inputs()
    base, keys = base_record(recipe, inputs), make_keys(recipe, inputs)
    layers = tuple(
        ImageLayer(role=role, key=key, digest=base.digest, size=1, verity=sha("v"), needs=())
        for role, key in (("base", base.key), *((role, keys[role]) for role in ROLES))
    )
    image = make_image(layers=layers, cmdline=recipe.cmdline)
    assert find_different(recipe, inputs, image) == ()
    code = {**inputs.roles, "app": {"x": sha("other")}}
    assert find_different(recipe, replace(inputs, roles=code), image) == ("app", "top")
    packages = {**inputs.packages, "base": {"udev": "258"}}
    assert find_different(recipe, replace(inputs, packages=packages), image) == ("base",)
    shorter = make_recipe(layers=recipe_fields()["layers"][:3], cmdline="loud")
    assert find_different(shorter, inputs, image) == ("top", "cmdline")
