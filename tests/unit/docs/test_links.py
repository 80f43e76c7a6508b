"""Every link within the documentation leads to a page, a file or a heading that is there."""

import os
import re
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from docs.site.assemble import made_pages
from docs.site.nav import MARK, PAGES_MARK, SECTIONS, render_folder, render_menu
from qtrade.settings import Settings
from tests.doc_blocks import PROJECT, pages

pytestmark = pytest.mark.unit

ROLES = sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "ansible/roles").glob("*/README.md"))


@cache
def _made() -> dict[str, str]:
    settings = Settings(project=PROJECT, state_dir=PROJECT / ".state", store=PROJECT / ".state/store")
    return {f"docs/{name}": text for name, text in made_pages(settings).items()}


def _text(path: str) -> str | None:
    """Return the text of a page, written or made; None where there is none."""
    made = _made().get(path)
    file = PROJECT / path
    return made if made is not None else file.read_text() if file.is_file() and file.suffix == ".md" else None


def _links(text: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    children = [child for token in tokens for child in token.children or ()]
    return [
        str(child.attrGet("href") or child.attrGet("src")) for child in children if child.type in ("link_open", "image")
    ]


@cache
def anchors(text: str) -> set[str]:
    """Return the names of a page's headings, as GitHub and Sphinx make them."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: str, text: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for link in _links(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = os.path.normpath(f"{Path(page).parent}/{path}") if path else page
        there = _text(target) if path else text
        if there is None and not (PROJECT / target).exists():
            found.append(f"{link}: there is no {target}")
        elif anchor and (there is None or anchor not in anchors(there)):
            found.append(f"{link}: {target} has no such heading")
    return found


def test_a_broken_link_is_found() -> None:
    text = "# One two!\n[a](missing.md) [b](#one-two) [c](#three) [d](runbooks/keys.md#begin) [e](runbooks/keys.md#end)\n![f](no.svg) [g](https://x)"
    assert broken("docs/page.md", text) == [
        "missing.md: there is no docs/missing.md",
        "#three: docs/page.md has no such heading",
        "runbooks/keys.md#end: docs/runbooks/keys.md has no such heading",
        "no.svg: there is no docs/no.svg",
    ]


@pytest.mark.parametrize("page", [str(path.relative_to(PROJECT)) for path in pages()] + ROLES)
def test_links_of_written_pages_lead_somewhere(page: str) -> None:
    assert broken(page, (PROJECT / page).read_text()) == []


def test_links_of_made_pages_lead_somewhere() -> None:
    faults = {page: faults for page, text in _made().items() if (faults := broken(page, text))}
    assert faults == {}


def test_files_that_code_and_comments_name_in_docs_are_there() -> None:
    """`docs/x.md` in a docstring, a manifest or a role is a link too, though nobody can click it."""
    named = re.compile(r"\bdocs/[\w./-]+?\.(?:md|svg)\b")
    missing = {}
    for folder in ("qtrade", "bake", "flash", "ansible/roles", "ansible/playbooks", "manifests", "packer"):
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".yml", ".yaml", ".j2", ".json", ".hcl", ".md"):
                lost = {name for name in named.findall(path.read_text()) if not (PROJECT / name).exists()}
                missing |= {str(path.relative_to(PROJECT)): lost} if lost else {}
    assert missing == {}


def test_the_menu_has_every_page_once_and_new_ones_last() -> None:
    known = ["index", "quickstart", "runbooks/index", "runbooks/keys", "brand-new"]
    assert render_menu(known) == (
        "```{toctree}\n:caption: Begin\n:hidden:\n\nquickstart\n```\n\n"
        "```{toctree}\n:caption: Run it\n:hidden:\n\nrunbooks/index\n```\n\n"
        "```{toctree}\n:caption: More\n:hidden:\n\nbrand-new\n```\n"
    )
    assert render_folder("runbooks", known) == "```{toctree}\n:maxdepth: 1\n\nkeys\n```\n"
    named = [page for section in SECTIONS.values() for page in section]
    assert len(named) == len(set(named))


def test_first_pages_say_where_the_menu_goes() -> None:
    assert (PROJECT / "docs/index.md").read_text().count(MARK) == 1
    for folder in ("runbooks", "adr"):
        assert Path(PROJECT / "docs" / folder / "index.md").read_text().count(PAGES_MARK) == 1


def test_the_quickstart_is_read_in_five_minutes() -> None:
    """At 200 words a minute, with its code."""
    assert len((PROJECT / "docs/quickstart.md").read_text().split()) <= 1000
