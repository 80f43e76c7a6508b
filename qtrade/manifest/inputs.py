"""What a role lets a host set: files, values and secrets."""

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from qtrade.manifest.base import Model


class UnitAction(Model):
    """What to do to a unit when a file or secret that it reads has changed."""

    name: str
    action: Literal["restart", "reload", "none"] = "restart"


class InputFile(Model):
    """A file of the config generation. With `each`, one file per key of that value (a mapping), `{key}` in the path.

    `template` is the Jinja2 text; the bake copies it into the image document, so that an image and what it reads fit. Only a boot
    reads a `reboot` file. Of an `access` file SSH, network or firewall depend: a push that changes one is undone by the host itself
    unless it is confirmed over a new connection.
    """

    path: str = Field(pattern=r"^[^/.][^\n]*$")
    mode: str = Field(default="0644", pattern=r"^0[0-7]{3}$")
    owner: str | int = "root"
    group: str | int = "root"
    each: str | None = None
    units: tuple[UnitAction, ...] = ()
    reboot: bool = False
    access: bool = False
    template: str = ""


class InputValue(Model):
    """A value that templates read. Without a default the host must give it.

    With `choices` it is one of them; with `pattern`, a regular expression, the whole text matches it (of a list: each item).
    With `apart_from` it names CPUs, and none that one of those values names. With `needed_with`, hosts past development must have
    it where they have one of those values.
    """

    type: Literal["str", "int", "bool", "list", "dict"]
    default: Any = None
    required: bool = False
    choices: tuple[str | int, ...] = ()
    pattern: str = ""
    apart_from: tuple[str, ...] = ()
    needed_with: tuple[str, ...] = ()
    description: str = ""

    @model_validator(mode="before")
    @classmethod
    def _without_default(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "default" not in fields and "required" not in fields:
            return {**fields, "required": True}
        return fields

    @model_validator(mode="after")
    def _default_fits(self) -> "InputValue":
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from error
        problem = None if self.required or self.default is None else self.problem_with(self.default)
        if problem:
            raise ValueError(f"the default {problem}")
        return self

    def problem_with(self, value: Any) -> str | None:
        """Return what is wrong with a value of the right type, None when it fits."""
        for item in value if isinstance(value, list) else (value,):
            if self.choices and item not in self.choices:
                return f"is {item!r:.60}, not one of {', '.join(map(str, self.choices))}"
            if self.pattern and not re.fullmatch(self.pattern, str(item)):
                return f"is {item!r:.60}, which does not match {self.pattern}"
        return None


def read_cpus(value: Any) -> frozenset[int]:
    """Return the CPUs that a value names: a list of numbers, or a text such as `0-3,8`; none where it is empty or no such thing."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value or "")
    spans = [re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip()) for part in text.split(",")]
    return frozenset(cpu for span in spans if span for cpu in range(int(span[1]), int(span[2] or span[1]) + 1))


class InputSecret(Model):
    """A secret that one unit reads as a systemd credential."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,60}$")
    units: tuple[UnitAction, ...] = ()
    description: str = ""


class RoleInputs(Model):
    """The declared inputs of one role (`config/inputs.yml`)."""

    files: tuple[InputFile, ...] = ()
    values: dict[str, InputValue] = Field(default_factory=dict)
    secrets: tuple[InputSecret, ...] = ()

    @model_validator(mode="after")
    def _each_resolves(self) -> "RoleInputs":
        for file in self.files:
            if file.each and (file.each not in self.values or self.values[file.each].type != "dict"):
                raise ValueError(f"file {file.path}: each names {file.each}, which is no value of type dict")
        return self
