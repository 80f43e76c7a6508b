"""README.md of each role, made of what the role declares. `python -m bake.role_docs` writes them again; `make schemas` calls it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bake.roles import Argument, Role, list_roles, read_role
from qtrade.manifest.inputs import InputFile, InputSecret, InputValue, UnitAction
from qtrade.settings import Settings, load_settings

_NOTE = "<!-- Made by `make schemas` of meta/ and config/inputs.yml. Change those. -->"


def write_role_docs(settings: Settings) -> tuple[Path, ...]:
    """Write README.md of every role and return the files. Raises `BadInput`."""
    written = []
    for name in list_roles(settings):
        role = read_role(settings, name)
        path = role.folder / "README.md"
        path.write_text(render_role(role))
        written.append(path)
    return tuple(written)


def render_role(role: Role) -> str:
    """Return the README of a role, as Markdown."""
    blocks = [
        _NOTE,
        f"# {role.name}",
        f"{role.meta.galaxy_info.description}.",
        role.entry.text.strip(),
        "## Arguments",
        "Given by the recipe (`vars`, `toggles`, `packages`, `components` of the layer) and baked into the layer.",
        _table(
            ("variable", "type", "default", "required", "choices", "description"),
            (row for name, argument in role.entry.options.items() for row in _argument_rows(name, argument)),
        ),
        "## Config",
        *_config(role),
    ]
    return "\n\n".join(blocks) + "\n"


def _config(role: Role) -> Iterator[str]:
    inputs = role.inputs
    if not (inputs.values or inputs.files or inputs.secrets):
        yield "A host sets nothing of this role."
        return
    if inputs.values:
        yield "Values that a host or its environment sets (`config`); `qtrade push` sends them."
        of_values = ("value", "type", "default", "required", "description")
        yield _table(of_values, (_value_row(name, value) for name, value in inputs.values.items()))
    if inputs.files:
        yield "Files of the config generation that they become:"
        yield _table(("file", "mode", "owner", "takes effect"), (_file_row(file) for file in inputs.files))
    if inputs.secrets:
        yield "Secrets (`secrets` of the host); they reach the units as systemd credentials and are in no image:"
        of_secrets = ("secret", "takes effect", "description")
        yield _table(of_secrets, (_secret_row(secret) for secret in inputs.secrets))


def _argument_rows(name: str, argument: Argument) -> Iterator[tuple[str, ...]]:
    kind = f"{argument.type} of {argument.elements}" if argument.elements else argument.type
    default = "" if argument.required or argument.default is None else _code(argument.default)
    choices = ", ".join(_code(choice) for choice in argument.choices)
    yield _code_name(name), kind, default, _yes(is_it=argument.required), choices, argument.text
    for key, option in argument.options.items():
        yield from _argument_rows(f"{name}.{key}", option)


def _value_row(name: str, value: InputValue) -> tuple[str, ...]:
    default = "" if value.required else _code(value.default)
    return _code_name(name), value.type, default, _yes(is_it=value.required), value.description


def _file_row(file: InputFile) -> tuple[str, ...]:
    effect = "at the next boot" if file.reboot else _effect(file.units)
    return _code_name(file.path), file.mode, f"{file.owner}:{file.group}", effect


def _secret_row(secret: InputSecret) -> tuple[str, ...]:
    return _code_name(secret.name), _effect(secret.units), secret.description


def _effect(units: Sequence[UnitAction]) -> str:
    return ", ".join(f"{unit.action} of {unit.name}" for unit in units) or "when it is read next"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return text that stays one cell: a bar or a line's end would begin another one."""
    return " ".join(text.replace("|", "\\|").split())


def _code(value: Any) -> str:
    return _code_name(value if isinstance(value, str) and value else json.dumps(value))


def _code_name(text: str) -> str:
    return f"`{text}`"


def _yes(*, is_it: bool) -> str:
    return "yes" if is_it else "no"


if __name__ == "__main__":
    write_role_docs(load_settings())
