"""The roles' READMEs are made of what the roles declare, and are fresh."""

from pathlib import Path

import pytest
import yaml

from bake.role_docs import render_role, write_role_docs
from bake.roles import list_roles, read_role
from qtrade.errors import BadInput
from qtrade.settings import Settings
from tests.fakes.examples import make_settings

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[3]
REAL = Settings(PROJECT, PROJECT / ".state", PROJECT / ".state/store")
META = {
    "galaxy_info": {
        "author": "qtrade",
        "description": "What it is",
        "license": "Apache-2.0",
        "min_ansible_version": "2.19",
        "platforms": [{"name": "Debian"}],
    }
}
OPTIONS = {
    "demo_port": {"type": "int", "default": 8, "description": "A port."},
    "demo_kind": {"type": "str", "default": "a", "choices": ["a", "b"], "description": ["One | of", "two."]},
    "demo_list": {"type": "list", "elements": "str", "default": [], "description": "Words."},
    "demo_parts": {
        "type": "dict",
        "required": True,
        "description": "Parts.",
        "options": {"one": {"type": "path", "required": True, "description": "The first."}},
    },
}
INPUTS = {
    "files": [
        {"path": "demo/x.env", "mode": "0640", "group": "demo", "units": [{"name": "x.service", "action": "restart"}]},
        {"path": "demo/early", "reboot": True},
    ],
    "values": {"demo_bind": {"type": "str", "default": "127.0.0.1"}, "demo_must": {"type": "bool"}},
    "secrets": [{"name": "demo_key", "description": "Of the API."}],
}


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = make_settings(tmp_path)
    write(settings, INPUTS)
    return settings


def write(settings: Settings, inputs: dict, **changes: object) -> None:
    folder = settings.project / "ansible/roles/demo"
    main = {"short_description": "Short", "description": "Long text.", "options": OPTIONS, **changes}
    documents = {
        "meta/main.yml": META,
        "meta/argument_specs.yml": {"argument_specs": {"main": main}},
        "config/inputs.yml": inputs,
    }
    for name, document in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(yaml.safe_dump(document))


@pytest.mark.parametrize("name", list_roles(REAL))
def test_the_readme_of_each_role_is_fresh(name) -> None:
    role = read_role(REAL, name)
    readme = role.folder / "README.md"
    assert readme.is_file(), "run `make schemas`"
    assert readme.read_text() == render_role(role), "run `make schemas`"


def test_a_row_says_all_of_an_argument(settings) -> None:
    text = render_role(read_role(settings, "demo"))
    for row in (
        "| `demo_port` | int | `8` | no |  | A port. |",
        "| `demo_kind` | str | `a` | no | `a`, `b` | One \\| of two. |",
        "| `demo_list` | list of str | `[]` | no |  | Words. |",
        "| `demo_parts` | dict |  | yes |  | Parts. |",
        "| `demo_parts.one` | path |  | yes |  | The first. |",
    ):
        assert row in text.splitlines()


def test_values_files_and_secrets_of_the_config_are_in_it(settings) -> None:
    lines = render_role(read_role(settings, "demo")).splitlines()
    for row in (
        "| `demo_bind` | str | `127.0.0.1` | no |  |",
        "| `demo_must` | bool |  | yes |  |",
        "| `demo/x.env` | 0640 | root:demo | restart of x.service |",
        "| `demo/early` | 0644 | root:root | at the next boot |",
        "| `demo_key` | when it is read next | Of the API. |",
    ):
        assert row in lines
    assert lines[2:5] == ["# demo", "", "What it is."]


def test_a_role_without_config_says_so(settings) -> None:
    write(settings, {"files": [], "values": {}, "secrets": []})
    assert "A host sets nothing of this role." in render_role(read_role(settings, "demo"))


def test_every_changed_declaration_changes_the_text(settings) -> None:
    before = render_role(read_role(settings, "demo"))
    for name, change in (
        ("demo_port", {"default": 9}),
        ("demo_port", {"description": "Another port."}),
        ("demo_port", {"type": "str"}),
        ("demo_kind", {"choices": ["a", "c"]}),
        ("demo_parts", {"required": False}),
    ):
        write(settings, INPUTS, options={**OPTIONS, name: {**OPTIONS[name], **change}})
        assert render_role(read_role(settings, "demo")) != before, (name, change)


def test_an_argument_without_a_description_is_refused_by_name(settings) -> None:
    write(settings, INPUTS, options={"demo_port": {"type": "int", "default": 8}})
    with pytest.raises(BadInput) as caught:
        read_role(settings, "demo")
    assert "argument_specs.main.options.demo_port.description" in caught.value.details


def test_they_are_written_where_they_belong(settings) -> None:
    (path,) = write_role_docs(settings)
    assert path == settings.project / "ansible/roles/demo/README.md"
    assert path.read_text() == render_role(read_role(settings, "demo"))
