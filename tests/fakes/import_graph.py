"""Which modules of the project run when one runs: its imports, lazy ones too, and the programs that it starts as `python -m MODULE`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
_PACKAGES = ("bake", "qtrade", "flash")
_MODULE = re.compile(r"(?:^|-m )((?:bake|qtrade|flash)(?:\.\w+)+)(?: |$)")


def files_that_run(start: str) -> set[str]:
    """Return the files of the project that run when `start` does, itself among them, by their path in the project."""
    found: set[str] = set()
    pending = [start]
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += [file for name in _names(path) for file in _files_of(name)]
    return found


def _names(path: str) -> Iterator[str]:
    """Yield the full names of what a file imports or starts; some are no modules but what is in them."""
    for node in ast.walk(ast.parse((CODE / path).read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield from (module, *(f"{module}.{alias.name}" for alias in node.names))
            case ast.ImportFrom():
                raise AssertionError(f"{path}: a relative import, which this reader does not know")
            case ast.Constant(value=str(text)):
                yield from (match[1] for match in _MODULE.finditer(text))


def _files_of(name: str) -> Iterator[str]:
    """Yield the file of a module, and those of the packages that it is in, which run before it."""
    parts = name.split(".")
    if parts[0] not in _PACKAGES:
        return
    for count in range(1, len(parts) + 1):
        whole = "/".join(parts[:count])
        yield from (path for path in (f"{whole}/__init__.py", f"{whole}.py") if (CODE / path).is_file())
