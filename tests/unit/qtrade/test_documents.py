"""Every command with `--json` prints a document whose schema is published, and the published schemas are those of the code."""

import json
import re
from pathlib import Path

import pytest
import typer

from qtrade.cli import app
from qtrade.cli.documents import FOREIGN, all_schemas, document_schemas
from qtrade.reporter import print_document
from tests.fakes.documents import SCHEMAS, check_document, validator

pytestmark = pytest.mark.unit

CLI = Path(__file__).resolve().parents[3] / "qtrade/cli"


def commands_with_json(command, path: tuple[str, ...] = ()) -> set[str]:
    own = {" ".join(path)} if any("--json" in option.opts for option in command.params) else set()
    return own.union(
        *(commands_with_json(child, (*path, name)) for name, child in getattr(command, "commands", {}).items())
    )


def test_the_published_schemas_are_up_to_date() -> None:
    published = {path.name.removesuffix(".schema.json"): json.loads(path.read_text()) for path in SCHEMAS.iterdir()}
    assert published == document_schemas(), "run `make schemas`"


def test_every_document_that_is_printed_has_a_schema() -> None:
    printed = {
        name for path in CLI.glob("*.py") for name in re.findall(r'print_document\(\s*"([a-z-]+)"', path.read_text())
    }
    assert printed == set(document_schemas())


def test_what_is_printed_otherwise_is_in_a_foreign_form() -> None:
    """A module that prints JSON by itself is that of a command whose form is somebody else's."""
    modules = {path.stem for path in CLI.glob("*.py") if re.search(r"print_json\(", path.read_text())}
    assert modules == {"hosts", "images", "schema"}
    assert commands_with_json(typer.main.get_command(app)) & set(FOREIGN) == {"hosts inventory"}


def test_a_document_says_its_name_and_version_and_a_fault_is_found(capsys) -> None:
    print_document("lab", {"name": "lab-1", "bmc_pid": 1, "qemu_pid": None, "up": True})
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "schema_version": 1, "document": "lab", "name": "lab-1", "bmc_pid": 1, "qemu_pid": None, "up": True,
    }  # fmt: skip
    check_document(out)
    for broken in (out.replace('"up": true', '"up": 3'), out.replace('"up"', '"down"'), out.replace(": 1,", ": 2,")):
        with pytest.raises(AssertionError):
            check_document(broken)


def test_schemas_have_names_of_their_own() -> None:
    assert len(all_schemas()) > len(document_schemas()) > 30
    assert all(validator(name).schema["properties"]["document"]["const"] == name for name in document_schemas())
