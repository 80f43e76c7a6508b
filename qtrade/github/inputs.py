"""The inputs of the workflows: what a person typed on GitHub's page, as JSON in QTRADE_INPUTS, checked before anything sees it.

Nothing of it is ever part of a shell's text: steps get checked values through their environment.
"""

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from qtrade.errors import BadInput, UsageError
from qtrade.manifest.base import Model, Name, Version
from qtrade.manifest.driver import Door

# A manifest's name, an IP address or a DNS name; the manifests say which of them there are.
HostText = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.:_-]{0,252}$")]
EnvironmentName = Literal["development", "staging", "production"]
UNCHANGED = "unchanged"
Toggle = Annotated[str, Field(pattern=r"^[0-9a-z][0-9a-z_-]{0,40}$")]
_LONGEST = 10_000
M = TypeVar("M", bound="Inputs")


class Inputs(Model):
    """What all have: texts without white space around them. Fields that were left empty count as left out."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: text for name, text in value.items() if text not in ("", None)}


class Flash(Inputs):
    """`flash.yml`. `first` is for a host that has no system of ours yet, which SSH cannot be tried on."""

    host: HostText
    version: Version
    door: Door | None = None
    first: bool = False
    dry_run: bool = False


class Push(Inputs):
    """`push.yml`: one host, or all hosts of an environment."""

    host: HostText | None = None
    environment: EnvironmentName | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_target(self) -> "Push":
        if (self.host is None) == (self.environment is None):
            raise ValueError("exactly one of host and environment is needed")
        return self


class Rollback(Inputs):
    """`rollback.yml`. Without a version, the one before."""

    host: HostText
    version: Version | None = None


class Rollout(Inputs):
    """`rollout.yml`. A start needs a version, and a recipe where hosts run several; `undo` goes to that version, or to what each ran."""

    environment: EnvironmentName
    action: Literal["start", "status", "pause", "resume", "abort", "undo"] = "start"
    version: Version | None = None
    recipe: Name | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _start_names_a_version(self) -> "Rollout":
        if self.action == "start" and self.version is None:
            raise ValueError("a start needs a version")
        return self


class Promote(Inputs):
    """`promote.yml`."""

    recipe: Name
    version: Version
    environment: EnvironmentName


class Drift(Inputs):
    """`drift.yml`: all environments, or one."""

    environment: EnvironmentName | None = None


class Nightly(Inputs):
    """`nightly.yml`. Without a recipe, that of the repository's variable."""

    recipe: Name | None = None
    promote: bool = True


class Layer(Inputs):
    """The seven: a host, the version of what the layer holds, toggles by name of the role's variable (`profile` is `agave_profile`)."""

    host: HostText
    version: Version | None = None
    image_version: Version | None = None
    rust_version: Version | None = None
    geyser_version: Version | None = None
    agave_version: Version | None = None
    collector_version: Version | None = None
    toggles: dict[str, Toggle] = Field(default_factory=dict)

    @field_validator("toggles")
    @classmethod
    def _drop_unchanged(cls, value: dict[str, str]) -> dict[str, str]:
        return {name: text for name, text in value.items() if text != UNCHANGED}


# By role: the input that is a version -> what it pins; `{major}` is the first number of the version.
_VERSIONS: dict[str, dict[str, str]] = {
    "bare_metal": {"version": "linux-image-amd64"},
    "ufw_solana": {"version": "ufw"},
    "datadog": {"version": "datadog-agent", "collector_version": "otelcol-contrib"},
    "geyser": {"version": "geyser", "rust_version": "rust", "agave_version": "agave"},
    "postgres": {"version": "postgresql-{major}"},
    "agave": {"version": "agave", "geyser_version": "geyser", "rust_version": "rust"},
    "qtrade_client": {"version": "qtrade-client"},
}
# By role: its variables that a workflow sets, without the role's name.
TOGGLES: dict[str, tuple[str, ...]] = {
    "bare_metal": ("core_dumps", "container_runtime", "transparent_hugepage"),
    "ufw_solana": (),
    "datadog": (
        "agent_logs_enabled",
        "agent_processes_enabled",
        "agent_apm_enabled",
        "agent_otlp_enabled",
        "collector_hostmetrics_enabled",
    ),
    "geyser": ("config_check", "unary_disabled", "subscription_limit_enforce"),
    "postgres": ("backup",),
    "agave": ("transaction_history", "profile"),
    "qtrade_client": (),
}
ROLES = tuple(_VERSIONS)


def parse_inputs(model: type[M], text: str) -> M:
    """Return the inputs. Raises `BadInput`, naming each wrong field, what was found and what is allowed."""
    return _validate(model, _read(text))


def parse_layer(role: str, text: str) -> Layer:
    """Return the inputs of a layer's workflow; those that are the role's toggles are moved there. Raises `BadInput`, `UsageError`."""
    if role not in _VERSIONS:
        raise UsageError(f"there is no layer {role!r:.60}", resolution=f"use one of {', '.join(ROLES)}")
    given = _read(text)
    known = {"host", "image_version", *_VERSIONS[role]}
    unknown = sorted(set(given) - known - set(TOGGLES[role]))
    if unknown:
        raise BadInput(
            f"input {unknown[0]!r:.60} is none of {role}'s",
            resolution=f"its inputs are {', '.join([*sorted(known), *TOGGLES[role]])}",
        )
    toggles = {name: _word(value) for name, value in given.items() if name in TOGGLES[role] and value not in ("", None)}
    return _validate(Layer, {name: value for name, value in given.items() if name in known} | {"toggles": toggles})


def pins_of(role: str, inputs: Layer) -> str:
    """Return what `qtrade lock --pin` takes: `geyser=15.1.2+solana.4.2.0,rust=1.96.1`, empty for nothing."""
    found = {what: getattr(inputs, name) for name, what in _VERSIONS[role].items()}
    return ",".join(f"{what.format(major=text.split('.')[0])}={text}" for what, text in found.items() if text)


def values_of(role: str, inputs: Layer) -> str:
    """Return what `qtrade lock --set` takes: `agave_profile=rpc`, empty for nothing."""
    return ",".join(f"{role}_{name}={text}" for name, text in inputs.toggles.items())


def next_version(day: str, run_number: str, attempt: str) -> str:
    """Return the version of an image that nobody named: 2026.11.29.417, and 2026.11.29.417.2 where a run is tried again.

    `day` is YYYY-MM-DD, the others are GitHub's. Raises `BadInput`.
    """
    numbers = [int(part) for part in day.split("-")]
    for name, text in (("GITHUB_RUN_NUMBER", run_number), ("GITHUB_RUN_ATTEMPT", attempt)):
        if not (text.isascii() and text.isdecimal()):
            raise BadInput(
                f"{name} is {text!r:.60}, which is no number", resolution="run it in a workflow, or name a version"
            )
        numbers.append(int(text))
    return ".".join(map(str, numbers if numbers[-1] > 1 else numbers[:-1]))


def _read(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST:
        raise BadInput(f"QTRADE_INPUTS has {len(text)} characters", resolution=f"{_LONGEST} are enough for all inputs")
    try:
        document = json.loads(text or "{}")
    except ValueError:
        document = text
    if document is None:  # of runs that nobody started, which have no inputs
        return {}
    if not isinstance(document, dict):
        raise BadInput("QTRADE_INPUTS is no JSON object", resolution="give it `${{ toJSON(inputs) }}`")
    return document


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _validate(model: type[M], document: dict[str, Any]) -> M:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, item['loc'])) or 'inputs'}: {item['msg'].removeprefix('Value error, ')} (found {item['input']!r:.80})"
            for item in error.errors()
        ]
        raise BadInput(
            "the workflow's inputs are refused; nothing was done",
            details="\n".join(lines),
            resolution="run the workflow again with plain names, addresses and version numbers",
        ) from error
