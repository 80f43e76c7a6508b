"""`qtrade migrate`: manifests of earlier schema versions, written anew in the newest, with their comments and their order."""

import difflib
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtrade.errors import BadInput, Refused
from qtrade.manifest.formats import find_steps, newest_version, upgrade
from qtrade.manifest.load import load_text
from qtrade.settings import Settings
from qtrade.upkeep.formats import FORMATS, Format

if TYPE_CHECKING:
    from pathlib import Path

_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")


@dataclass(frozen=True)
class Migration:
    """A file whose format is older than this qtrade's: from and to which version, and what changes in its text (a unified diff)."""

    path: str
    kind: str
    before: int
    after: int
    diff: str


@dataclass(frozen=True)
class MigrationDocument:
    """What `qtrade migrate --json` prints; `written` says whether the files were changed."""

    migrations: tuple[Migration, ...]
    checked: int
    written: bool


def migrate(settings: Settings, *, dry_run: bool, formats: Sequence[Format] = FORMATS) -> MigrationDocument:
    """Rewrite every manifest of an earlier version, once all can be. Raises `BadInput`; `Refused` where a comment would be lost."""
    found: list[tuple[Path, str, Migration]] = []
    checked = 0
    for one in formats:
        for path in sorted(settings.project.glob(one.glob)):
            checked += 1
            text = path.read_text()
            changed = rewrite(one.model, text, source=str(path))
            if changed is not None:
                name = str(path.relative_to(settings.project))
                found.append((path, changed, _describe(one, name, text, changed)))
    if not dry_run:
        for path, changed, _ in found:
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text(changed)
            fresh.replace(path)
    return MigrationDocument(
        tuple(migration for _, _, migration in found), checked, written=not dry_run and bool(found)
    )


def rewrite(model: type[Any], text: str, *, source: str) -> str | None:
    """Return the text in the newest version, None where it is that already. Raises `BadInput`, `Refused`."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - only a migration needs it
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415
    from ruamel.yaml.util import load_yaml_guess_indent  # noqa: PLC0415

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 10**6
    try:
        document = editor.load(text)
    except YAMLError as error:
        raise BadInput(f"{source} is not YAML", details=str(error), resolution="mend the syntax there") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if find_steps(model, version) is None:
        raise BadInput(
            f"{source}: schema_version is {version!r}, which no release of qtrade has written",
            details=f"this qtrade reads up to {newest_version(model)}",
            resolution="correct it, or use the newer qtrade that wrote the file",
        )
    if not upgrade(model, document):
        return None
    _, indent, offset = load_yaml_guess_indent(text)
    editor.indent(mapping=2, sequence=indent or 2, offset=offset or 0)
    sink = io.StringIO()
    editor.dump(document, sink)
    changed = sink.getvalue()
    _keep_comments(text, changed, source)
    load_text(model, changed, source=source)
    return changed


def render_migrations(document: MigrationDocument) -> str:
    """Return what changes, for people."""
    if not document.migrations:
        return f"{document.checked} manifests are of the newest format"
    lines = []
    for one in document.migrations:
        lines += [f"{one.path}: {one.kind} {one.before} -> {one.after}", one.diff.rstrip()]
    done = "written" if document.written else "to write"
    return "\n".join([*lines, f"{len(document.migrations)} of {document.checked} manifests {done}"])


def _describe(one: Format, name: str, text: str, changed: str) -> Migration:
    lines = difflib.unified_diff(
        text.splitlines(keepends=True), changed.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    after = newest_version(one.model)
    match = re.search(r"^\s*schema_version:\s*(\d+)", text, re.MULTILINE)
    return Migration(name, one.name, int(match[1]) if match else 0, after, "".join(lines))


def _keep_comments(before: str, after: str, source: str) -> None:
    """Raise `Refused` when a comment is gone: ruamel keeps comments with what they stand beside, which a step may have removed."""
    lost = _comments(before) - _comments(after)
    if lost:
        raise Refused(
            f"{source}: {sum(lost.values())} comments would be lost; nothing was written",
            details="\n".join(f"# {text}" for text in sorted(lost)),
            resolution="move them to another line of the file, then run the same command again",
        )


def _comments(text: str) -> Counter[str]:
    return Counter(match[1].strip() for match in map(_COMMENT.search, text.splitlines()) if match)
