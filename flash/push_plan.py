"""What a push would do to a host, as a pure function of what it has and what it is to have."""

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flash.config import Bundle, ConfigFile
from qtrade import look
from qtrade.look import Row
from qtrade.manifest import Image
from qtrade.manifest.inputs import InputFile, UnitAction

_SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class FileChange:
    """A file of the generation that is `new`, `changed`, `gone`, or `mended`: somebody altered it on the host."""

    path: str
    change: str


@dataclass(frozen=True)
class ValueChange:
    """A value and what it is before and after; None: not given, and that the host does not say it (`is_known` false)."""

    name: str
    before: Any
    after: Any
    is_known: bool = True


@dataclass(frozen=True)
class UnitStep:
    """What a unit is told: `restart`, or `reload`, which restarts a unit that knows no reload."""

    name: str
    action: str


@dataclass(frozen=True)
class Held:
    """What a host has: its generation, the bundle of that (None: unknown), and the files that are `altered`, not as the bundle says."""

    generation: str
    bundle: Bundle | None
    altered: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SecretChanges:
    """Secrets that are sent, by name with the reason, and those that the host is to forget."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    forget: tuple[str, ...] = ()


@dataclass(frozen=True)
class PushPlan:
    """What a push of one host does.

    `secrets` maps names to the reason why they are sent, never to a value; the manifest names those to `forget` no more. SSH, network
    or firewall depend on the files that are `guarded`: the host takes them back unless they are confirmed. Units `if_new` are left
    alone where the host finds that it holds the very secrets that come. Only a boot reads `reboot` files. `to` is the
    generation that is gone back to, empty where a new one is pushed.
    """

    host: str
    version: str
    generation: str
    files: tuple[FileChange, ...] = ()
    values: tuple[ValueChange, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    forget: tuple[str, ...] = ()
    units: tuple[UnitStep, ...] = ()
    if_new: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    reboot: tuple[str, ...] = ()
    to: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether the host has all of it already."""
        return not (self.files or self.secrets or self.forget or self.to)


def plan_push(
    image: Image,
    held: Held,
    wanted: Bundle,
    *,
    to: str = "",
    secrets: SecretChanges | None = None,
) -> PushPlan:
    """Return what it takes to bring a host from what it has to `wanted`."""
    sent = secrets or SecretChanges()
    files = tuple(_compare_files(held, wanted.files))
    declared = {file.path: inputs for file in files if (inputs := declaration_of(image, file.path)) is not None}
    of_sent, of_forgotten = _units_of(image, sent.reasons), _units_of(image, sent.forget)
    of_files = [action for inputs in declared.values() for action in inputs.units]
    return PushPlan(
        host=wanted.host,
        version=image.version,
        generation=held.generation,
        files=files,
        values=tuple(_compare_values(held.bundle, wanted)),
        secrets=dict(sent.reasons),
        forget=sent.forget,
        units=merge_actions([*of_files, *of_sent, *of_forgotten]),
        if_new=_only_in(of_sent, [*of_files, *of_forgotten]),
        guarded=tuple(path for path, inputs in declared.items() if inputs.access),
        reboot=tuple(path for path, inputs in declared.items() if inputs.reboot),
        to=to,
    )


def declaration_of(image: Image, path: str) -> InputFile | None:
    """Return how the image declares a file of the generation; `{key}` in a declared path stands for one plain name."""
    for inputs in image.inputs.values():
        for file in inputs.files:
            before, key, after = file.path.partition("{key}")
            inner = path.removeprefix(before).removesuffix(after)
            if path == file.path or (key and path == before + inner + after and inner and "/" not in inner):
                return file
    return None


def merge_actions(actions: Iterable[UnitAction]) -> tuple[UnitStep, ...]:
    """Return each unit once, as the agent does; a restart outweighs a reload."""
    chosen: dict[str, UnitStep] = {}
    for action in actions:
        if action.name not in chosen or action.action == "restart":
            chosen[action.name] = UnitStep(action.name, action.action)
    return tuple(chosen.values())


def _units_of(image: Image, names: Container[str]) -> list[UnitAction]:
    secrets = (secret for inputs in image.inputs.values() for secret in inputs.secrets)
    return [action for secret in secrets if secret.name in names for action in secret.units]


def _only_in(actions: Iterable[UnitAction], others: Iterable[UnitAction]) -> tuple[str, ...]:
    known = {action.name for action in others}
    return tuple(dict.fromkeys(action.name for action in actions if action.name not in known))


def render_plan(plan: PushPlan, *, shows_values: bool = False, width: int | None = None) -> str:
    """Return the plan as lines for people, without a trailing newline."""
    if plan.is_empty:
        return f"{plan.host}: nothing to change; generation {plan.generation or 'none'} of {plan.version} is current"
    aim = f"back to generation {plan.to}" if plan.to else "a new generation"
    rows = [Row(file.change, f"file {file.path}", _effect(plan, file.path)) for file in plan.files]
    rows += [Row("send", f"secret {name}", f"since {reason}") for name, reason in sorted(plan.secrets.items())]
    rows += [Row("remove", f"secret {name}", "the host's manifest does not name it") for name in plan.forget]
    rows += [Row(unit.action, f"unit {unit.name}", _why(plan, unit)) for unit in plan.units]
    lines = [
        look.render_plan(
            f"push {plan.host}: {aim}, from {plan.generation or 'none'}, for {plan.version}", rows, width=width
        )
    ]
    if not plan.units:
        lines.append("  no unit reads what changes")
    if shows_values:
        lines += [_render_value(value) for value in plan.values] or ["  no value changes"]
    return "\n".join(lines)


def _effect(plan: PushPlan, path: str) -> str:
    """Return what is special about a change of this file."""
    said = {
        "undone by the host itself unless it can be reached anew afterwards": path in plan.guarded,
        "read at boot only: the change waits for a reboot": path in plan.reboot,
    }
    return "; ".join(text for text, applies in said.items() if applies)


def _why(plan: PushPlan, unit: UnitStep) -> str:
    return "if the host holds another secret" if unit.name in plan.if_new else "it reads what changes"


def _render_value(value: ValueChange) -> str:
    before = _text(value.before) if value.is_known else "(the host does not say)"
    return f"  value {value.name}: {before} -> {_text(value.after)}"


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _compare_files(held: Held, wanted: Iterable[ConfigFile]) -> Iterable[FileChange]:
    old = {file.path: file for file in (held.bundle.files if held.bundle else ())}
    new = {file.path: file for file in wanted}
    for path in sorted({*old, *new, *held.altered}):
        if path in held.altered and old.get(path) == new.get(path):
            yield FileChange(path, "mended")
        elif old.get(path) != new.get(path):
            yield FileChange(path, "gone" if path not in new else "changed" if path in old else "new")


def _compare_values(held: Bundle | None, wanted: Bundle) -> Iterable[ValueChange]:
    # Bundles of earlier versions of qtrade came without values.
    is_known = held is not None and bool(held.values)
    old = dict(held.values) if held else {}
    for name in sorted({*old, *wanted.values}):
        before, after = old.get(name), wanted.values.get(name)
        if not is_known or before != after:
            yield ValueChange(name, before, after, is_known)
