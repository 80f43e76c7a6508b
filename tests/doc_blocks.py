"""The commands that the documentation shows: found in its pages, parsed by the program itself, and marked with where they are run.

A block of commands is fenced as `sh`. A comment right before it says who runs it: `<!-- run: here -->` in a project without a machine
(tests/integration/test_doc_commands.py), `<!-- run: lab -->` on a lab host (tests/torture/test_doc_walk.py). One without a mark is
parsed only. `<!-- file: PATH -->` before a block of another language makes it that file of the project.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.core import TyperCommand, TyperGroup

from docs.site.pages.commands import tree

PROJECT = Path(__file__).parent.parent
_MARK = re.compile(r"<!--\s*(run|file):\s*([^\s>]+)\s*-->")
_SHELL = ("sh", "bash", "console", "shell")
_BETWEEN = re.compile(r"[;|&<>()]+")
_PLACEHOLDER = re.compile(r"[A-Z_-]{1,}|.*[…<>\[\]|].*")


@dataclass(frozen=True)
class Block:
    """A block of a page: where it begins (line from 1), its language, its mark and what follows that, its text."""

    page: str
    line: int
    language: str
    mark: str
    value: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_shell(self) -> bool:
        return self.language in _SHELL

    def commands(self) -> tuple[tuple[str, ...], ...]:
        """Return the commands of a shell block as words, without `sudo`, variables set before them, and what is behind a pipe or `>`."""
        joined = self.text.replace("\\\n", " ")
        return tuple(words for line in joined.splitlines() for words in _split(line) if words)


def pages() -> tuple[Path, ...]:
    """Return the pages that people write: README, CONTRIBUTING and those of docs/."""
    docs = PROJECT / "docs"
    return (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(docs.rglob("*.md")))


def read_blocks(page: Path) -> tuple[Block, ...]:
    """Return all blocks of code of a page, fenced and indented, in order."""
    return tuple(_blocks(str(page.relative_to(PROJECT)), MarkdownIt("commonmark").parse(page.read_text())))


def all_blocks() -> tuple[Block, ...]:
    return tuple(block for page in pages() for block in read_blocks(page))


def read_spans(page: Path) -> tuple[tuple[int, str], ...]:
    """Return the pieces of code within a page's sentences, with the line of their paragraph."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        line = (token.map or [0])[0] + 1
        found += [(line, child.content) for child in token.children or () if child.type == "code_inline"]
    return tuple(found)


def parse_command(words: tuple[str, ...]) -> str:
    """Parse a `qtrade …` command as the program does, run nothing, and return what it would say of a wrong one."""
    command: object = tree()
    context, name, rest = None, "qtrade", list(words[1:])
    try:
        while isinstance(command, TyperGroup | TyperCommand):
            context = command.make_context(name, rest, parent=context)
            rest = [*context._protected_args, *context.args]
            if not isinstance(command, TyperGroup):
                return ""
            if not rest:
                return "" if command.invoke_without_command else "a command is missing"
            found, command, rest = command.resolve_command(context, rest)
            name = str(found)
    except typer.Exit:  # --help, --version
        return ""
    except Exception as error:
        # Which class it is depends on the version of typer; all that speak of the command line have this.
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    return "that is no command"


def check_span(text: str) -> str:
    """Return what is wrong with a `qtrade …` in a sentence, which may leave things out and name several commands by `a|b`."""
    for words in _alternatives(text.split()[1:]):
        command: TyperGroup | TyperCommand = tree()
        for word in words:
            if word.startswith("--") and word != "--":
                known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
                if word.split("=")[0] not in known:
                    return f"{command.name} has no option {word}"
            elif isinstance(command, TyperGroup) and word in command.commands:
                command = command.commands[word]
            elif (
                isinstance(command, TyperGroup)
                and not command.invoke_without_command
                and not _PLACEHOLDER.fullmatch(word)
            ):
                return f"{command.name} has no command {word}"
    return ""


def _alternatives(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield the words with each `a|b|c` as one of them."""
    for number, word in enumerate(words):
        clean = word.strip("[],.").replace("\\|", "|")
        if "|" in clean and not clean.startswith("|"):
            for one in clean.split("|"):
                yield from _alternatives([*words[:number], one, *words[number + 1 :]])
            return
        words[number] = clean
    yield tuple(word for word in words if word)


def _split(line: str) -> Iterator[tuple[str, ...]]:
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    part: list[str] = []
    for word in [*lexer, ";"]:
        if not _BETWEEN.fullmatch(word):
            part.append(word)
            continue
        yield _without_prefix(part)
        part = []


def _without_prefix(words: list[str]) -> tuple[str, ...]:
    while words and (words[0] == "sudo" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
        words = words[1:]
    if words and words[0].endswith("/qtrade"):
        words = ["qtrade", *words[1:]]
    return tuple(words)


def _blocks(page: str, tokens: list[Token]) -> Iterator[Block]:
    mark = value = ""
    for token in tokens:
        if token.type == "html_block":
            found = _MARK.search(token.content)
            mark, value = (found[1], found[2]) if found else ("", "")
        elif token.type in ("fence", "code_block"):
            language = token.info.split()[0] if token.info else ("" if token.type == "fence" else "indented")
            yield Block(page, (token.map or [0])[0] + 1, language, mark, value, token.content)
            mark = value = ""
        else:
            mark = value = ""
