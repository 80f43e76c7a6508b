"""Which variables a role's tasks, templates and defaults read, found as Jinja and Ansible read them."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
import yaml

# Keywords of tasks whose text is an expression without braces.
EXPRESSIONS = frozenset({"when", "changed_when", "failed_when", "until", "that"})
# What Ansible itself defines.
OF_ANSIBLE = frozenset(
    {"ansible_check_mode", "ansible_diff_mode", "ansible_managed", "inventory_hostname", "role_path", "omit", "item"}
    | {"lookup", "query", "undef", "now"}
)


class _Anything(dict[str, Callable[..., Any]]):
    """Filters and tests of every name: those of Ansible are not Jinja's own."""

    def get(self, key: str, default: Any = None) -> Any:
        del key, default
        return str

    def __contains__(self, key: object) -> bool:
        return True


def read_variables(text: str) -> set[str]:
    """Return the names that a template reads and does not set itself."""
    environment = jinja2.Environment(autoescape=True)
    environment.filters = _Anything()
    environment.tests = _Anything()
    return jinja2.meta.find_undeclared_variables(_parse(environment, text)) - OF_ANSIBLE


def set_variables(text: str) -> set[str]:
    """Return the names that a template sets, for itself and for the templates that it includes."""
    environment = jinja2.Environment(autoescape=True)
    nodes = _parse(environment, text).find_all(jinja2.nodes.Name)
    return {node.name for node in nodes if node.ctx == "store"}


def _parse(environment: jinja2.Environment, text: str) -> jinja2.nodes.Template:
    with warnings.catch_warnings():  # Ansible escapes the backslashes of patterns first, so Jinja never sees them alone
        warnings.simplefilter("ignore", DeprecationWarning)
        return environment.parse(text)


def own_names(tasks: Any) -> set[str]:
    """Return the names that tasks register, set or loop over themselves."""
    return set(_own_names(tasks))


def variables_of_tasks(tasks: Any) -> set[str]:
    """Return the names that tasks read, without those that they register, set or loop over themselves."""
    return {name for text in _texts(tasks) for name in read_variables(text)} - own_names(tasks)


def variables_of_templates(folder: Path) -> dict[str, set[str]]:
    """Return the names that each template below a folder reads."""
    return {
        str(path.relative_to(folder)): read_variables(path.read_text())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def load_tasks(folder: Path) -> dict[str, Any]:
    """Return the tasks of every file of a folder."""
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yml"))}


def walk_tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every task, those of blocks too."""
    for task in node or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from walk_tasks(task.get(part))


def _texts(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _texts(value, str(name))
            yield from _texts(name)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
    elif isinstance(node, str):
        yield f"{{{{ {node} }}}}" if key in EXPRESSIONS and "{{" not in node else node


def _own_names(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for value in node:
            yield from _own_names(value)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("register", "loop_var", "index_var"):
                yield value
            elif key in ("vars", "ansible.builtin.set_fact") and isinstance(value, dict):
                yield from value
            yield from _own_names(value)
