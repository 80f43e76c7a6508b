"""Whether the Ansible of this environment supports the Python of a recipe's suite: modules run in the layer, by the suite's own Python."""

from importlib.metadata import version

from qtrade.errors import BadInput
from qtrade.manifest import Recipe

Release = tuple[int, int]

# /usr/bin/python3 of each suite: the package python3 in packages.debian.org and packages.ubuntu.com.
SUITE_PYTHON: dict[str, Release] = {
    "bookworm": (3, 11),
    "trixie": (3, 13),
    "noble": (3, 12),
}
# First and last Python of targets, by release of ansible-core: docs.ansible.com, "Compile" of each release's developer guide. Of the
# installed release a test compares them with the source (`_PY_MIN` of module_utils/basic.py, INTERPRETER_PYTHON_FALLBACK).
TARGET_PYTHON: dict[Release, tuple[Release, Release]] = {
    (2, 18): ((3, 8), (3, 13)),
    (2, 19): ((3, 8), (3, 13)),
    (2, 20): ((3, 9), (3, 14)),
}


def check_target_python(recipe: Recipe, ansible_core: str | None = None) -> None:
    """Raise `BadInput` unless `ansible_core`, by default the installed one, supports the Python of the recipe's suite."""
    core = ansible_core or version("ansible-core")
    suite = recipe.base.suite
    python = SUITE_PYTHON.get(suite)
    if python is None:
        raise BadInput(
            f"recipe {recipe.name}: which Python {suite} has is not known",
            details=f"known suites: {', '.join(sorted(SUITE_PYTHON))}",
            resolution="correct base.suite, or add the suite and its Python to bake/target_python.py",
        )
    supported = TARGET_PYTHON.get(_release(core))
    if supported is None:
        raise BadInput(
            f"recipe {recipe.name}: which Pythons ansible-core {core} supports on targets is not known",
            details=f"known releases: {', '.join(map(_shown, TARGET_PYTHON))}",
            resolution="install the Ansible that pyproject.toml pins, or add the release to bake/target_python.py",
        )
    first, last = supported
    if not first <= python <= last:
        fitting = [_shown(known) for known, (low, high) in TARGET_PYTHON.items() if low <= python <= high]
        raise BadInput(
            f"recipe {recipe.name}: {suite} has Python {_shown(python)}, which ansible-core {core} does not support on targets",
            details=f"it supports {_shown(first)} to {_shown(last)}; ansible-core for {_shown(python)}: {', '.join(fitting) or 'none'}",
            resolution="bake with an Ansible that supports it (pyproject.toml pins ansible), or choose another base.suite",
        )


def _release(text: str) -> Release:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _shown(release: Release) -> str:
    return f"{release[0]}.{release[1]}"
