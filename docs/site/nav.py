"""Where pages stand in the site's menu. A page that no section names comes last, under "More"."""

from collections.abc import Iterable, Sequence

SECTIONS: dict[str, tuple[str, ...]] = {
    "Begin": ("quickstart", "concepts", "comparison"),
    "Run it": ("runbooks/index", "workflows"),
    "Security": ("threat-model", "reference/seal", "units"),
    "Reference": (
        "reference/commands",
        "reference/variables",
        "exit-codes",
        "bad-inputs",
        "reference/states",
        "reference/manifests/index",
        "reference/roles/index",
    ),
    "How it works": ("architecture", "adr/index", "client", "geyser", "host-tuning"),
    "Measured and tested": ("bench", "bench-flash", "scale", "torture"),
}
MARK = "<!-- menu -->"
PAGES_MARK = "<!-- pages of this folder -->"


def render_menu(pages: Iterable[str]) -> str:
    """Return the menu of the first page. `pages` are all pages by path, without suffix; names of pages that are not there are left out."""
    known = set(pages)
    named = {page for section in SECTIONS.values() for page in section}
    rest = sorted(page for page in known - named - {"index"} if "/" not in page)
    sections = {**SECTIONS, "More": tuple(rest)}
    return "\n".join(
        _tree([page for page in section if page in known], caption=caption)
        for caption, section in sections.items()
        if known.intersection(section)
    )


def render_folder(folder: str, pages: Iterable[str]) -> str:
    """Return the menu of `<folder>/index`: all other pages of the folder by name."""
    within = sorted(page for page in pages if page.startswith(f"{folder}/") and page != f"{folder}/index")
    return _tree([page.removeprefix(f"{folder}/") for page in within if "/" not in page.removeprefix(f"{folder}/")])


def _tree(pages: Sequence[str], caption: str = "") -> str:
    options = [f":caption: {caption}", ":hidden:"] if caption else [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *pages, "```", ""])
