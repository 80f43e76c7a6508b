"""Every command in the documentation is one that the program and the Makefile know."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.doc_blocks import PROJECT, Block, all_blocks, check_span, pages, parse_command, read_blocks, read_spans

pytestmark = pytest.mark.unit

MARKS = {("", ""), ("run", "here"), ("run", "lab")}


def _block(text: str, language: str = "sh") -> Block:
    return Block("page", 1, language, "", "", text)


def test_commands_of_a_block_lose_what_stands_around_them() -> None:
    text = "$ sudo .venv/bin/qtrade drift --env e --html > drift.html # why\nA=1 qtrade keys \\\n  show && make demo | cat\n"
    assert _block(text).commands() == (
        ("qtrade", "drift", "--env", "e", "--html"),
        ("drift.html",),
        ("qtrade", "keys", "show"),
        ("make", "demo"),
        ("cat",),
    )


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("qtrade flash", "Missing option '--host'."),
        ("qtrade flash --host h --sure", "No such option: --sure"),
        ("qtrade flush --host h", "No such command 'flush'."),
        ("qtrade hosts", "Usage: qtrade hosts"),
        ("qtrade hosts show", "Missing argument"),
        ("qtrade images gc --keep none", "Invalid value for '--keep'"),
    ],
)
def test_a_command_that_the_program_would_refuse_is_found(command: str, fault: str) -> None:
    assert fault in parse_command(tuple(command.split()))


@pytest.mark.parametrize(
    "command", ["qtrade --help", "qtrade bake --version 1", "qtrade bake shell agave", "qtrade keys rotate --help"]
)
def test_a_command_that_the_program_takes_passes(command: str) -> None:
    assert parse_command(tuple(command.split())) == ""


@pytest.mark.parametrize(
    ("span", "fault"),
    [
        ("qtrade images promote|revoke|verify", ""),
        ("qtrade images promote|revoke|check", "images has no command check"),
        ("qtrade flash --reimage|--wipe-state|--adopt", ""),
        ("qtrade flash --resume|--sure", "flash has no option --sure"),
        ("qtrade keys rotate NAME [--new-root]", ""),
        ("qtrade key rotate", "qtrade has no command key"),
        ("qtrade hosts show HOST", ""),
    ],
)
def test_a_command_within_a_sentence_may_leave_things_out(span: str, fault: str) -> None:
    assert check_span(span) == fault


def test_a_mark_belongs_to_the_block_right_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.doc_blocks.PROJECT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("<!-- run: lab -->\n```sh\na\n```\n\n<!-- run: here -->\n\nwords\n\n```sh\nb\n```\n\n    c\n")
    assert [(block.line, block.language, block.mark, block.value, block.text) for block in read_blocks(page)] == [
        (2, "sh", "run", "lab", "a\n"),
        (10, "sh", "", "", "b\n"),
        (14, "indented", "", "", "c\n"),
    ]


@pytest.mark.parametrize("block", all_blocks(), ids=lambda block: block.place)
def test_every_block_holds_commands_that_are_known(block: Block) -> None:
    if not block.is_shell:
        stray = re.search(r"^\s*(?:\$ |sudo )?(?:\S*/)?(?:qtrade|make) [a-z-]+", block.text, re.MULTILINE)
        assert stray is None, f"{block.place}: a block with commands begins with ```sh"
        assert block.mark in ("", "file"), f"{block.place}: only blocks of commands are run"
        return
    assert (block.mark, block.value) in MARKS, f"{block.place}: run: here, run: lab, or no mark"
    syntax = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert syntax.returncode == 0, f"{block.place}: {syntax.stderr}"
    for words in block.commands():
        if words[0] == "qtrade":
            assert parse_command(words) == "", f"{block.place}: {' '.join(words)}"
        elif words[0] == "make":
            _check_targets(block, words[1:])


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(PROJECT)))
def test_commands_within_sentences_are_known(page: Path) -> None:
    faults = {}
    for line, span in read_spans(page):
        if span.startswith("qtrade ") and (fault := check_span(span)):
            faults[f"line {line}: {span}"] = fault
        if (made := re.match(r"make ([a-z][a-z0-9-]*)", span)) and made[1] not in _targets():
            faults[f"line {line}: {span}"] = f"the Makefile has no {made[1]}"
    assert faults == {}


def _check_targets(block: Block, words: tuple[str, ...]) -> None:
    asked = [word for word in words if "=" not in word and not word.startswith("-")]
    assert set(asked) <= _targets(), f"{block.place}: the Makefile has {sorted(_targets())}"


def _targets() -> set[str]:
    phony = re.search(r"^\.PHONY: (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    return set(phony[1].split())
