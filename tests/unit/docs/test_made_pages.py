"""What the site makes of code says all that the code says, and pictures are those of today's code."""

from pathlib import Path

import pytest

from bake.seal.scan import FORBIDDEN
from docs.site.assemble import assemble, made_pages
from docs.site.pages import seal, states, variables
from docs.site.pages.commands import render_commands, tree, walk
from docs.site.pages.schemas import PLACES, render_schemas
from docs.site.pictures.__main__ import PICTURES
from docs.site.pictures.canvas import Canvas
from flash.states import ENDS, State
from qtrade.settings import Settings
from tests.doc_blocks import PROJECT

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(project=PROJECT, state_dir=tmp_path, store=tmp_path / "store")


def test_the_command_line_has_a_section_for_each_command_with_each_option() -> None:
    page = render_commands()
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    commands = {" ".join(path): command for path, command in walk(tree(), ("qtrade",))}
    assert sections.keys() == commands.keys()
    assert {"qtrade bake", "qtrade bake shell", "qtrade hosts prepare-disks"} <= commands.keys()
    for name, command in commands.items():
        assert command.help, f"{name} says nothing of itself"
        for parameter in command.params:
            shown = (
                parameter.opts[0]
                if parameter.opts[0].startswith("-")
                else (parameter.metavar or str(parameter.name).upper())
            )
            assert shown.strip("[]") in sections[name], f"{name}: {shown}"


def test_a_command_is_shown_with_values_defaults_and_meanings() -> None:
    page = render_commands()
    assert "```text\nqtrade images gc [OPTIONS]\n```" in page
    assert "| `--keep` | number | 20 | Keep the last N versions of each recipe. |" in page
    assert "| `--host` | text | required | Host in manifests/hosts, or a lab host. |" in page
    assert "| `--layer` | text, repeatable |  | Role of a layer at fault; repeatable. |" in page
    assert "| `--root-key` | file or folder |  | File of the private root key; keys/root.key if left out. |" in page
    assert "| `--dry-run` |  |  | Show the plan and stop. |" in page


def test_every_schema_has_a_page_and_every_field_a_row() -> None:
    found = render_schemas(PROJECT / "manifests/schemas")
    assert PLACES.keys() <= found.keys()
    assert "| `os_disk` | [OsDisk](#osdisk) | required | The one disk that a flash may write |" in found["host"]
    assert "| `soak_s` | integer | `0` |  (at least 0) |".replace("|  (", "| (") in found["environment"]
    assert (
        "| `doors` | list of [Door](#door) | required | A way to get the agent running on a host (at least so many: 1) |"
        in found["host"]
    )


def test_every_environment_variable_of_the_code_is_documented() -> None:
    in_code = variables.names_in_code(PROJECT)
    known = variables.VARIABLES.keys() | variables.INTERNAL.keys()
    assert {name: place for name, place in in_code.items() if name not in known} == {}, "docs/site/pages/variables.py"
    assert known - in_code.keys() == set(), "no code reads them any more"


def test_the_seal_list_has_a_reason_for_all_that_is_looked_for() -> None:
    assert set(FORBIDDEN) == seal.PATH_REASONS.keys()
    assert set(seal.findings()) == seal.CONTENT_REASONS.keys()


def test_every_state_has_a_meaning_and_a_row() -> None:
    assert states.MEANINGS.keys() == set(State)
    page = states.render_states()
    for state in State:
        assert page.count(f"| `{state}` | ") == (
            1 if state in ENDS and state is not State.COMMITTED else 3 if state is State.COMMITTED else 2
        )
    assert (
        "| `ARMED` | The boot entry stands. It is the last write. | 5 min | the new version once, then the old version | `FAILED_SAFE` |"
        in page
    )


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_up_to_date(name: str) -> None:
    assert (PROJECT / f"docs/pictures/{name}.svg").read_text() == PICTURES[name]().render(), "run make schemas"


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_overlaps_in_a_picture(name: str) -> None:
    assert PICTURES[name]().problems() == []


def test_what_overlaps_or_does_not_fit_is_found() -> None:
    canvas = Canvas(200, 100, "x")
    canvas.box(0, 0, 80, 40, "one")
    canvas.box(60, 20, 80, 40, "a name too long for this")
    canvas.label(190, 95, "out")
    canvas.arrow((10, 90), (10, 30), (100, 30))
    assert canvas.problems() == [
        "'a name too long for this' is too long for its box",
        "'out' sticks out",
        "'one' overlaps 'a name too long for this'",
        "a line from (10, 90) to (10, 30) crosses 'one'",
        "a line from (10, 30) to (100, 30) crosses 'one'",
        "a line from (10, 30) to (100, 30) crosses 'a name too long for this'",
    ]


def test_the_picture_of_the_states_shows_what_the_table_says() -> None:
    picture = PICTURES["states"]().render()
    assert all(picture.count(f">{state}<") >= 1 for state in State)
    assert picture.count(">new once, then old<") == 2
    assert picture.count(">FAILED_DIRTY<") == 3


def test_assembled_pages_lead_out_of_docs_by_the_repository(settings: Settings, tmp_path: Path) -> None:
    assemble(settings, tmp_path / "source")
    assert (
        "[`host.schema.json`](https://github.com/qtrade/qtrade/blob/main/manifests/schemas/host.schema.json)"
        in (tmp_path / "source/reference/manifests/host.md").read_text()
    )
    page = (tmp_path / "source/reference/seal.md").read_text()
    assert "[`manifests/ids.yaml`](https://github.com/qtrade/qtrade/blob/main/manifests/ids.yaml)" in page
    index = (tmp_path / "source/index.md").read_text()
    assert "[Quickstart](quickstart.md)" in index
    assert ":caption: Run it\n:hidden:\n\nrunbooks/index\n" in index
    assert "reproduce-an-image\n" in (tmp_path / "source/runbooks/index.md").read_text()
    assert {f"reference/roles/{role}.md" for role in ("agave", "qtrade_client")} <= made_pages(settings).keys()
