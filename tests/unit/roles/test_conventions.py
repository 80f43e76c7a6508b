"""What holds of every role: declared and described variables, defaults that agree, small task files, mirrored paths, specs."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from bake.roles import ImageSpecs, Role, list_roles, read_role
from qtrade.manifest import Recipe, load_manifest
from qtrade.manifest.lent import owner_of
from qtrade.settings import Settings
from tests.fakes.role_variables import (
    load_tasks,
    own_names,
    read_variables,
    set_variables,
    variables_of_tasks,
    variables_of_templates,
    walk_tasks,
)

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[3]
SETTINGS = Settings(PROJECT, PROJECT / ".state", PROJECT / ".state/store")
ROLES = list_roles(SETTINGS)
RECIPES = ("lab", "production")
# What a bake gives to every role.
SHARED = {"qtrade_packages", "qtrade_components", "qtrade_epoch"}
# What a template of the config generation is rendered with, besides the values of all roles.
OF_CONFIG = {"host", "key", "item"}
TOP_FOLDERS = {"boot", "etc", "opt", "usr"}
# Lines of a shell program that are no logic: comments, Jinja, and lists of arguments.
NO_LOGIC = ("#", "{#", "{%", "set -- ")
LEAVES_THE_LAYER = ("delegate_to", "local_action", "connection", "remote_user", "become")
ACTS_ON_WHAT_RUNS = (
    "ansible.builtin.iptables",
    "ansible.builtin.reboot",
    "ansible.posix.mount",
    "ansible.posix.sysctl",
    "community.general.modprobe",
    "community.general.ufw",
    "community.postgresql.postgresql_db",
)
# Each role has a spec for each of them.
MARKS = {"layer", "booted", "host"}


@pytest.fixture(params=ROLES)
def role(request) -> Role:
    return read_role(SETTINGS, request.param)


def load(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def prefix(role: Role) -> str:
    return f"{role.name}_"


def test_the_seven_layers_have_their_roles_and_playbooks() -> None:
    for name in RECIPES:
        recipe = load_manifest(Recipe, PROJECT / f"manifests/images/{name}.yaml")
        assert sorted(layer.role for layer in recipe.layers) == list(ROLES)
    assert sorted(path.stem for path in (PROJECT / "ansible/playbooks").glob("*.yml")) == list(ROLES)


def test_every_argument_is_of_its_role_or_borrowed(role) -> None:
    """What is borrowed has one owner, which gives it a value in every recipe, with the same type."""
    for name, item in role.entry.options.items():
        owner = owner_of(name, role.name, ROLES)
        if name in SHARED or owner is None:
            assert name.startswith(prefix(role)) or name in SHARED
            continue
        lent = read_role(SETTINGS, owner).entry.options[name]
        assert (item.type, item.elements, item.required) == (lent.type, lent.elements, True), name
        assert item.text.startswith("Borrowed"), name


def test_defaults_and_declared_defaults_are_the_same(role) -> None:
    declared = {name: item.default for name, item in role.entry.options.items() if item.default is not None}
    assert load(role.folder / "defaults/main.yml") == declared
    for name, item in role.entry.options.items():
        assert item.required != (name in declared), f"{name} is required or has a default, and not both"


def test_a_default_is_one_of_the_choices(role) -> None:
    for name, item in role.entry.options.items():
        if item.choices and not item.required:
            given = item.default if isinstance(item.default, list) else [item.default]
            assert set(given) <= set(item.choices), name


def test_a_list_says_of_what(role) -> None:
    assert [name for name, item in role.entry.options.items() if (item.type == "list") != bool(item.elements)] == []


def test_variables_of_the_role_itself_have_its_prefix(role) -> None:
    own = load(role.folder / "vars/main.yml")
    assert [name for name in own if not name.lstrip("_").startswith(prefix(role))] == []
    assert set(own) & set(role.entry.options) == set()


def test_every_variable_that_is_read_is_declared(role) -> None:
    known = {*role.entry.options, *load(role.folder / "vars/main.yml")}
    read = {f"templates/{name}": names for name, names in variables_of_templates(role.folder / "templates").items()}
    for folder in ("tasks", "handlers"):
        for name, tasks in load_tasks(role.folder / folder).items():
            read[f"{folder}/{name}"] = variables_of_tasks(tasks)
    for name in ("defaults/main.yml", "vars/main.yml"):
        read[name] = variables_of_tasks(load(role.folder / name))
    for tasks in load_tasks(role.folder / "tasks").values():
        known |= own_names(tasks)
    known |= {name for path in files_of(role, "templates") for name in set_variables(path.read_text())}
    undeclared = {place: sorted(names - known) for place, names in read.items() if names - known}
    assert undeclared == {}


def test_every_declared_argument_is_read(role) -> None:
    files = [path for name in ("tasks", "templates", "handlers", "vars", "defaults") for path in files_of(role, name)]
    text = "\n".join(path.read_text() for path in files)
    assert [name for name in role.entry.options if text.count(name) <= (1 if name in defaults(role) else 0)] == []


def defaults(role: Role) -> dict[str, Any]:
    return load(role.folder / "defaults/main.yml")


def files_of(role: Role, folder: str) -> list[Path]:
    return [path for path in sorted((role.folder / folder).rglob("*")) if path.is_file() and path.suffix != ".pyc"]


def test_values_of_the_config_are_of_their_role_and_described(role) -> None:
    assert [name for name in role.inputs.values if not name.startswith(prefix(role))] == []


def test_config_templates_read_declared_values(role) -> None:
    values = {name for other in ROLES for name in read_role(SETTINGS, other).inputs.values}
    for name, names in variables_of_templates(role.folder / "config/templates").items():
        assert names <= values | OF_CONFIG, f"{name} reads {sorted(names - values - OF_CONFIG)}"


def test_every_file_of_the_config_has_its_template_and_no_template_is_left(role) -> None:
    written = {f"{file.path}.j2" for file in role.inputs.files}
    templates = role.folder / "config/templates"
    assert {str(path.relative_to(templates)) for path in files_of(role, "config/templates")} == written


def test_tasks_change_files_of_the_layer_only(role) -> None:
    """Not the build machine, not a service, and in check mode, which may be against a running host, nothing at all."""
    for folder in ("tasks", "handlers"):
        for name, tasks in load_tasks(role.folder / folder).items():
            for task in walk_tasks(tasks):
                assert forbidden_in(task) == [], f"{folder}/{name}: {task.get('name')}"


def forbidden_in(task: dict[str, Any]) -> list[str]:
    """Return what a role's task must not have: keywords that leave the layer, modules that act on what runs."""
    found = [word for word in LEAVES_THE_LAYER if word in task]
    found += [module for module in ACTS_ON_WHAT_RUNS if module in task]
    for module in ("ansible.builtin.systemd", "ansible.builtin.systemd_service", "ansible.builtin.service"):
        arguments = task.get(module) or {}
        found += [f"{module}: {key}" for key in ("state", "daemon_reload") if key in arguments]
    is_question = "ansible.builtin.command" in task and task.get("changed_when") is False
    return found + (["check_mode: false"] if task.get("check_mode") is False and not is_question else [])


@pytest.mark.parametrize(
    "task",
    [
        {"ansible.builtin.command": "x", "delegate_to": "localhost"},
        {"ansible.builtin.command": "x", "check_mode": False},
        {"ansible.builtin.copy": "x", "check_mode": False, "changed_when": False},
        {"ansible.builtin.systemd_service": {"name": "x", "state": "started"}},
        {"ansible.builtin.service": {"name": "x", "state": "restarted"}},
        {"ansible.posix.sysctl": {"name": "x"}},
        {"community.general.ufw": {"state": "enabled"}},
    ],
)
def test_the_search_knows_a_task_that_leaves_the_layer(task) -> None:
    (inner,) = [item for item in walk_tasks([{"block": [task]}]) if "block" not in item]
    assert len(forbidden_in(inner)) == 1


def test_task_files_are_few_and_short(role) -> None:
    files = files_of(role, "tasks")
    assert 1 <= len(files) <= 5
    assert {path.name: len(path.read_text().splitlines()) for path in files if too_long(path)} == {}


def too_long(path: Path) -> bool:
    return len(path.read_text().splitlines()) > 60


def test_files_and_templates_mirror_the_target(role) -> None:
    for folder in ("files", "templates"):
        found = {path.relative_to(role.folder / folder).parts for path in files_of(role, folder)}
        assert {parts[0] for parts in found} <= TOP_FOLDERS
        assert all(len(parts) > 1 for parts in found)
    assert all(path.suffix == ".j2" for path in files_of(role, "templates"))
    assert not any(path.suffix == ".j2" for path in files_of(role, "files"))


def test_only_programs_are_executable(role) -> None:
    for path in (*files_of(role, "files"), *files_of(role, "templates")):
        is_program = path.read_bytes()[:2] == b"#!"
        assert is_program or not path.stat().st_mode & 0o111, f"{path} is executable and no program"


def test_no_shell_is_longer_than_ten_lines(role) -> None:
    for path in (*files_of(role, "files"), *files_of(role, "templates")):
        lines = path.read_text(errors="replace").splitlines()
        if lines and lines[0].startswith("#!") and lines[0].endswith("sh"):
            code = [line for line in lines[1:] if line.strip() and not line.strip().startswith(NO_LOGIC)]
            assert len(code) <= 10, f"{path} has {len(code)} lines of shell"


def test_specs_hold_in_the_layer_on_the_booted_image_and_on_the_host(role) -> None:
    marks = set()
    for path in files_of(role, "specs"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in MARKS and ast.unparse(node.value) == "pytest.mark":
                marks.add(node.attr)
    missing = MARKS - marks
    assert missing == set(), f"{role.name} has no spec with the mark {sorted(missing)}"


def test_the_search_reads_patterns_with_backslashes() -> None:
    assert read_variables(r"{{ a | regex_replace('\.', '\[') }}") == {"a"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{{ a | combine(b) }}{% for x in c %}{{ x }}{{ loop.index }}{% endfor %}", {"a", "b", "c"}),
        ("{% set y = d %}{{ y }}{{ lookup('file', e) }}", {"d", "e"}),
        ("{{ {'opt/' ~ f: g['h']} }} {% if i is defined %}{% endif %}", {"f", "g", "i"}),
        ("no braces", set()),
    ],
)
def test_the_search_finds_what_a_template_reads(text, names) -> None:
    assert read_variables(text) == names


def test_the_search_knows_expressions_and_a_tasks_own_names() -> None:
    tasks = [
        {"name": "{{ a }}", "ansible.builtin.command": "x", "register": "role_said", "when": "b | length > 0"},
        {"ansible.builtin.assert": {"that": ["c", "role_said.rc == 0", "role_own"]}, "vars": {"role_own": "{{ d }}"}},
        {"block": [{"ansible.builtin.debug": {"msg": "{{ item }}{{ e }}"}, "loop": "{{ f }}"}]},
    ]
    assert variables_of_tasks(tasks) == {"a", "b", "c", "d", "e", "f"}


def test_the_firewalls_specs_read_the_interfaces_of_every_role_that_declares_some() -> None:
    declared = load_manifest(ImageSpecs, PROJECT / "ansible/roles/ufw_solana/specs/image.yml").interfaces
    laid = PROJECT.glob("ansible/roles/*/*/usr/share/qtrade/interfaces.d/*")
    assert {path.name.split(".")[0] for path in laid} == set(declared)
