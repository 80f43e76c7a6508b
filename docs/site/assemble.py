"""The pages that Sphinx reads: those of docs/, with links that lead out of it made links to the repository, and those made of code."""

import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from bake.role_docs import render_role
from bake.roles import list_roles, read_role
from docs.site.nav import MARK, PAGES_MARK, render_folder, render_menu
from docs.site.pages.commands import render_commands
from docs.site.pages.schemas import render_schemas
from docs.site.pages.seal import render_seal
from docs.site.pages.states import render_states
from docs.site.pages.variables import render_variables
from qtrade.settings import Settings

REPOSITORY = "https://github.com/qtrade/qtrade/blob/main"
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def made_pages(settings: Settings) -> dict[str, str]:
    """Return the pages that are made of code, by their path in docs/."""
    schemas = render_schemas(settings.project / "manifests/schemas")
    return {
        "reference/commands.md": render_commands(),
        "reference/variables.md": render_variables(),
        "reference/states.md": render_states(),
        "reference/seal.md": render_seal(settings),
        "reference/manifests/index.md": _index(
            "Manifests", "The files that people write, and the one that a bake writes."
        ),
        **{f"reference/manifests/{name}.md": text for name, text in schemas.items()},
        "reference/roles/index.md": _index("Roles", "What the recipe gives each role, and what a host may set."),
        **{f"reference/roles/{name}.md": render_role(read_role(settings, name)) for name in list_roles(settings)},
    }


def written_pages(settings: Settings) -> dict[str, Path]:
    """Return the files of docs/ that people wrote or tools committed, pictures too, by their path in docs/."""
    docs = settings.project / "docs"
    return {
        str(path.relative_to(docs)): path
        for path in sorted(docs.rglob("*"))
        if path.suffix in (".md", ".svg") and "site" not in path.relative_to(docs).parts
    }


def assemble(settings: Settings, folder: Path) -> None:
    """Write all pages into `folder`, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    texts = made_pages(settings)
    written = written_pages(settings)
    texts |= {name: path.read_text() for name, path in written.items()}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_finish(text, name, texts.keys()) if name.endswith(".md") else text)


def _index(title: str, text: str) -> str:
    return f"# {title}\n\n{text}\n\n{PAGES_MARK}\n"


def _finish(text: str, name: str, files: Collection[str]) -> str:
    pages = {file.removesuffix(".md") for file in files if file.endswith(".md")}
    text = text.replace(MARK, render_menu(pages))
    text = text.replace(PAGES_MARK, render_folder(str(Path(name).parent), pages))
    return _LINK.sub(_link_out_of(name, files), text)


def _link_out_of(name: str, files: Collection[str]) -> Callable[[re.Match[str]], str]:
    """Return what makes a link of page `name` to a file that the site does not have one to the repository."""

    def replace(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = os.path.normpath(f"docs/{Path(name).parent}/{target}")
        is_here = path.removeprefix("docs/") in files or (path.endswith(".md") and path.startswith("docs/"))
        return match[0] if is_here else f"{match[1]}{REPOSITORY}/{path}{match[3]}"

    return replace
