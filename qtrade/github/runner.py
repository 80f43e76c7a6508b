"""The files by which a step talks to its runner: outputs, environment, summary. Each name and value is checked before it is written."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from qtrade.errors import BadInput, UsageError
from qtrade.redaction import redact

OUTPUT, ENVIRONMENT, SUMMARY = "GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def write_outputs(values: Mapping[str, str]) -> None:
    """Give later steps and jobs the values, as `steps.ID.outputs.NAME`. Without a runner nothing is written. Raises `BadInput`."""
    _append(OUTPUT, values)


def write_environment(values: Mapping[str, str]) -> None:
    """Give later steps of the job the values, as variables. Without a runner nothing is written. Raises `BadInput`."""
    _append(ENVIRONMENT, values)


def write_summary(markdown: str) -> None:
    """Show the text on the run's page, redacted. Without a runner nothing is written."""
    path = os.environ.get(SUMMARY)
    if path:
        with Path(path).open("a") as sink:
            sink.write(redact(markdown).rstrip("\n") + "\n")


def read_variable(name: str, what: str) -> str:
    """Return a variable that has to be set. Raises `UsageError`, saying `what` it is."""
    value = os.environ.get(name)
    if not value:
        raise UsageError(f"{name} is not set: {what}", resolution="run it in a workflow, or set the variable")
    return value


def _append(kind: str, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        # One that holds a line break could write other names.
        if not _NAME.fullmatch(name) or any(not character.isprintable() for character in value):
            raise BadInput(
                f"{name}: {value!r:.120} cannot be given to later steps", resolution="leave control characters out"
            )
    path = os.environ.get(kind)
    if path and values:
        with Path(path).open("a") as sink:
            sink.write("".join(f"{name}={value}\n" for name, value in values.items()))
