"""How exposed the services of an image are, as `systemd-analyze security` sees them, against the thresholds of manifests/units.yaml."""

import fnmatch
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bake.chamber import Chamber, Command, run_in_chamber
from qtrade.errors import NotFound, Refused, ToolError
from qtrade.manifest import Image, load_manifest
from qtrade.manifest.base import Model
from qtrade.manifest.recipe import BASE
from qtrade.process import require_root
from qtrade.settings import Settings
from qtrade.store import Store

_POLICY = "manifests/units.yaml"
_UNIT = re.compile(r"f (?:usr/lib|etc)/systemd/system/([^/]+\.service)(?:\.d/[^/]+\.conf)?")
_OVERALL = re.compile(r"→ Overall exposure level for (\S+): ([0-9.]+) ")
_COST = re.compile(r"✗ (\S+)\s.*\s([0-9]\.[0-9])$")
_MASKED = re.compile(r"^Unit (\S+) is masked", re.MULTILINE)
# What systemd-analyze calls a template's instance.
_INSTANCE = "@test_instance."
_SHOWN_COSTS = 3


class UnitRule(Model):
    """The highest exposure that units whose name matches `unit` (shell style) may have, and why it is no lower."""

    unit: str = Field(min_length=1)
    threshold: float = Field(ge=0, le=10)
    reason: str = Field(min_length=10)


class UnitPolicy(Model):
    """The thresholds; of several rules that match, the first counts."""

    schema_version: Literal[1]
    units: tuple[UnitRule, ...]

    def rule_for(self, unit: str) -> UnitRule | None:
        """Return the rule for a unit."""
        return next((rule for rule in self.units if fnmatch.fnmatchcase(unit, rule.unit)), None)


@dataclass(frozen=True)
class StackedLayer:
    """A layer as far as its units are concerned: its blob and its own paths."""

    role: str
    blob: Path
    paths: tuple[str, ...]


@dataclass(frozen=True)
class UnitExposure:
    """A unit of a role: 0 is not exposed at all, 10 fully. `costs` are its dearest settings, each with what it costs."""

    role: str
    unit: str
    exposure: float
    costs: tuple[tuple[str, float], ...] = ()
    rule: UnitRule | None = None

    @property
    def is_within(self) -> bool:
        """Whether there is a threshold, and the exposure is not above it."""
        return self.rule is not None and self.exposure <= self.rule.threshold

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        rule = self.rule.model_dump() if self.rule else None
        return {**asdict(self), "costs": dict(self.costs), "rule": rule, "is_within": self.is_within}


def measure_version(settings: Settings, store: Store, recipe: str, version: str) -> tuple[UnitExposure, ...]:
    """Measure the units of a published image (root). Raises `NotFound`, `BadInput`, `ToolError`."""
    image = Image.model_validate_json(store.read(recipe, version).image_text)
    layers = []
    for layer in image.layers:
        record = store.find_record(layer.key)
        if record is None:
            raise NotFound(
                f"the store has lost what {recipe} {version} says of layer {layer.role}", resolution="bake it again"
            )
        paths = store.paths(record) if layer.role != BASE else ()
        layers.append(StackedLayer(layer.role, store.open_blob(layer.digest), paths))
    return measure_layers(settings, layers)


def measure_layers(settings: Settings, layers: Sequence[StackedLayer]) -> tuple[UnitExposure, ...]:
    """Measure the services that layers above the base bring or change, in a chroot of them all (root), and add their rules."""
    require_root("a look at the units of an image")
    owners = list_units(layers)
    if not owners:
        return ()
    policy = load_manifest(UnitPolicy, settings.find(_POLICY))
    work = settings.state_dir / "exposure"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    # A masked unit makes it fail, although it goes on; what it left out is seen below.
    analyze = ("systemd-analyze", "security", "--offline=true", "--no-pager", *owners)
    command = Command(("sh", "-c", 'chroot "$@" || true', "sh", str(work / "root"), *analyze))
    chamber = Chamber(work, tuple(layer.blob for layer in layers), (command,))
    try:
        done = run_in_chamber(chamber, env={"COLUMNS": "400", "SYSTEMD_COLORS": "0"}, timeout_s=300)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    masked = set(_MASKED.findall(done.stderr))
    asked = [unit for unit in owners if unit not in masked]
    found = parse_analysis(done.stdout)
    if len(found) != len(asked):
        raise ToolError(
            f"systemd-analyze spoke of {len(found)} of {len(asked)} units", details=done.stderr[-2000:].strip()
        )
    # An alias gives the unit that it stands for; so a unit may come twice.
    measured = {
        one.unit: UnitExposure(owners[unit], one.unit, one.exposure, one.costs, policy.rule_for(one.unit))
        for unit, one in zip(asked, found, strict=True)
    }
    return tuple(measured.values())


def list_units(layers: Iterable[StackedLayer]) -> dict[str, str]:
    """Return the services that layers above the base bring or change by a drop-in, each with the role that did so last."""
    return {
        match[1]: layer.role
        for layer in layers
        if layer.role != BASE
        for match in map(_UNIT.fullmatch, layer.paths)
        if match
    }


def parse_analysis(text: str) -> tuple[UnitExposure, ...]:
    """Return what `systemd-analyze security` says on several units, in its order, without roles and rules."""
    found = []
    costs: list[tuple[str, float]] = []
    for line in text.splitlines():
        cost, overall = _COST.match(line), _OVERALL.match(line)
        if cost:
            costs.append((cost[1], float(cost[2])))
        elif overall:
            dearest = sorted(costs, key=lambda item: -item[1])[:_SHOWN_COSTS]
            found.append(UnitExposure("", overall[1].replace(_INSTANCE, "@."), float(overall[2]), tuple(dearest)))
            costs = []
    return tuple(found)


def render_units(units: Iterable[UnitExposure]) -> str:
    """Return a table for people, the most exposed first."""
    rows = [("UNIT", "ROLE", "EXPOSURE", "AT MOST", "DEAREST SETTINGS")]
    for one in sorted(units, key=lambda one: (-one.exposure, one.unit)):
        limit = f"{one.rule.threshold:.1f}" if one.rule else "?"
        mark = "" if one.is_within else " !"
        costs = ", ".join(f"{name} {cost:.1f}" for name, cost in one.costs)
        rows.append((one.unit, one.role, f"{one.exposure:.1f}{mark}", limit, costs))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])).rstrip()
        for row in rows
    )


def require_within(units: Iterable[UnitExposure]) -> None:
    """Raise `Refused`, naming each unit that is above its threshold or has none."""
    bad = [one for one in units if not one.is_within]
    if bad:
        raise Refused(
            f"{len(bad)} unit(s) are more exposed than {_POLICY} allows",
            details="\n".join(
                f"  {one.role}: {one.unit}: {one.exposure:.1f}, "
                + (f"at most {one.rule.threshold:.1f}" if one.rule else "and no line")
                for one in bad
            ),
            resolution=f"harden the unit (docs/units.md), or give it a line with its reason in {_POLICY}",
        )
