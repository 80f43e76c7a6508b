"""The command line: every command, argument and option, from the tree that the program itself parses with."""

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from docs.site.pages.table import code, table
from qtrade.cli import app

Command = TyperCommand | TyperGroup
_INTRODUCTION = """Made of the program itself. What is data goes to stdout, what is for people to stderr; errors end with the cure and
an exit code by class. `--debug` before the command shows a traceback with errors."""
_WORDS: dict[object, str] = {str: "text", int: "number", float: "number", Path: "file or folder"}


@cache
def tree() -> TyperGroup:
    """Return the root of the command line."""
    root = typer.main.get_command(app)
    if not isinstance(root, TyperGroup):
        raise TypeError("the command line has no commands")
    return root


def walk(command: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Yield every command that does something, with the words that lead to it, in alphabetical order."""
    if isinstance(command, TyperGroup):
        if command.invoke_without_command:
            yield path, command
        for name in sorted(command.commands):
            yield from walk(command.commands[name], (*path, name))
    elif isinstance(command, TyperCommand) and not command.hidden:
        yield path, command


def render_commands() -> str:
    """Return the page."""
    found = list(walk(tree(), ("qtrade",)))
    blocks = [
        "# Command line\n",
        f"{_INTRODUCTION}\n",
        table(
            ("command", "does"),
            ((f"[`{' '.join(path)}`](#{'-'.join(path)})", _brief(command)) for path, command in found),
        ),
    ]
    return "\n".join([*blocks, *(_section(path, command) for path, command in found)])


def _brief(command: Command) -> str:
    return _help(command).split("\n")[0].split(": `")[0].rstrip(".")


def _help(command: Command) -> str:
    return (command.help or "").strip()


def _section(path: tuple[str, ...], command: Command) -> str:
    values = _values(command.callback)
    arguments = [part for part in command.params if isinstance(part, TyperArgument)]
    options = [part for part in command.params if isinstance(part, TyperOption) and not part.hidden]
    usage = " ".join([*path, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    rows = [
        *((code(_argument(part)), *_row(part, values)) for part in arguments),
        *((", ".join(code(name) for name in part.opts), *_row(part, values)) for part in options),
    ]
    return "\n".join(
        [
            f"## {' '.join(path)}\n",
            f"{_help(command)}\n",
            f"```text\n{usage}\n```\n",
            table(("argument or option", "value", "default", "meaning"), rows) if rows else "It has no options.\n",
        ]
    )


def _argument(part: TyperArgument) -> str:
    name = part.metavar or str(part.name).upper()
    return name if part.required or name.startswith("[") else f"[{name}]"


def _row(part: TyperArgument | TyperOption, values: dict[str, str]) -> tuple[str, str, str]:
    variable = f" Environment: `{part.envvar}`." if part.envvar else ""
    return values.get(str(part.name), ""), _default(part), f"{part.help or ''}{variable}"


def _default(part: TyperArgument | TyperOption) -> str:
    if part.required:
        return "required"
    value = part.default
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "" else ""


def _values(callback: Callable[..., Any] | None) -> dict[str, str]:
    """Return what a value of each parameter is, in a word; nothing for flags."""
    hints = get_type_hints(inspect.unwrap(callback)) if callback else {}
    return {name: _word(hint) for name, hint in hints.items()}


def _word(hint: object) -> str:
    inner = [one for one in get_args(hint) if one is not NoneType]
    if get_origin(hint) is UnionType:
        return " or ".join(map(_word, inner))
    if get_origin(hint) is list:
        return f"{_word(inner[0])}, repeatable"
    return _WORDS.get(hint, "")
