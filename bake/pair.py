"""The pair gate: the validator and the Geyser plugin that it loads must have been made for each other.

The plugin is a Rust trait object behind a shared object: the validator checks neither version nor compiler, and what does not fit ends in
a segmentation fault. So a recipe whose pair does not fit is refused before anything is built. The rules and their grounds: docs/geyser.md.
"""

import re
from dataclasses import dataclass

import yaml

from bake.components.builder import provenance_of
from bake.lock.document import Lock, LockedBuild
from qtrade.errors import Refused
from qtrade.manifest import Recipe
from qtrade.manifest.component import Component, GithubComponent, SourceComponent
from qtrade.settings import Settings
from qtrade.store import Store

PLUGIN, VALIDATOR = "geyser", "agave"
_NUMBERS = r"\d+\.\d+\.\d+"
_TAG = re.compile(
    rf"v(?P<version>{_NUMBERS}(?:-rc\d+)?)\+solana\.(?P<solana>{_NUMBERS})(?:[-.](?P<early>(?:alpha|beta|rc)\.\d+))?"
    r"(?:\+rust-(?P<rust>\d+(?:\.\d+){1,2}))?"
)
_RELEASE = re.compile(rf"(?P<solana>{_NUMBERS})(?:-(?P<early>(?:alpha|beta|rc)\.\d+))?(?:-jito(?:\.\d+)?)?")
_RUSTC = re.compile(rf"^rustc ({_NUMBERS})\b", re.MULTILINE)
_HOW_TAGS_LOOK = (
    "tags of Yellowstone that fit a stock validator are vX.Y.Z+solana.A.B.C, for example v15.1.2+solana.4.2.0"
)


@dataclass(frozen=True)
class Release:
    """A release of Agave: the three numbers, and the word of an early one (`rc.0`), else nothing."""

    numbers: tuple[int, int, int]
    early: str = ""

    def __str__(self) -> str:
        text = ".".join(map(str, self.numbers))
        return f"{text}-{self.early}" if self.early else text


@dataclass(frozen=True)
class PluginTag:
    """A tag of Yellowstone: its own version, the Agave release that it was built for, and the Rust that it names, if it does."""

    version: str
    solana: Release
    rust: str = ""


@dataclass(frozen=True)
class Pair:
    """Both sides as a recipe has them."""

    plugin: PluginTag
    plugin_rustc: str
    validator: Release
    validator_rustc: str

    def __str__(self) -> str:
        return (
            f"Yellowstone {self.plugin.version} for Agave {self.plugin.solana} (rustc {self.plugin_rustc}) "
            f"in Agave {self.validator} (rustc {self.validator_rustc})"
        )

    @property
    def is_exact(self) -> bool:
        """Whether the plugin names the very release that loads it."""
        return self.plugin.solana == self.validator


def parse_tag(tag: str) -> PluginTag:
    """Return what a tag of Yellowstone says. Raises `Refused` for one that is mistyped or made for another validator."""
    found = _TAG.fullmatch(tag)
    if found is None:
        raise Refused(
            f"geyser: {tag!r} is no tag to take a plugin from", details=_why_no_tag(tag), resolution=_HOW_TAGS_LOOK
        )
    return PluginTag(found["version"], _release(found), found["rust"] or "")


def find_pair(recipe: Recipe) -> Pair | None:
    """Return the pair of a recipe, None if it does not bake both. Raises `Refused` when either side does not say what it is."""
    plugin, validator = _component(recipe, PLUGIN), _component(recipe, VALIDATOR)
    if plugin is None or validator is None:
        return None
    found = _RELEASE.fullmatch(validator.version)
    if found is None:
        raise Refused(
            f"agave: {validator.version!r} is no release of a validator",
            resolution="write components.agave.version as 4.2.1, 4.3.0-rc.0 or 4.2.1-jito",
        )
    return Pair(
        parse_tag(_tag_of(plugin)),
        _declared_rustc(PLUGIN, plugin),
        _release(found),
        _declared_rustc(VALIDATOR, validator),
    )


def check_pair(recipe: Recipe) -> Pair | None:
    """Check what the recipe says of validator and plugin; return the pair, None if it does not bake both. Raises `Refused`."""
    pair = find_pair(recipe)
    if pair is None:
        return None
    faults = [*_version_faults(pair), *_rustc_faults(pair), *_variable_faults(recipe)]
    if faults:
        raise Refused(
            "the validator and its Geyser plugin do not fit: it would crash when it loads it",
            details="\n".join(f"  {line}" for line in (str(pair), *faults)),
            resolution=f"take a plugin of the line vX.Y.Z+solana.{pair.validator}, built by rustc {pair.validator_rustc}, "
            "or the validator that the plugin names; change components.geyser and components.agave together",
        )
    return pair


def check_built_pair(settings: Settings, store: Store, recipe: Recipe, lock: Lock) -> Pair | None:
    """Check that what was built is by the rustc that the recipe says: provenance of builds, version.yml of folders.

    Returns the pair, None if the recipe does not bake both. Raises `Refused`.
    """
    pair = find_pair(recipe)
    if pair is None:
        return None
    for name in (PLUGIN, VALIDATOR):
        component, locked = recipe.components[name], lock.components.get(name)
        told: str | None = None
        if isinstance(locked, LockedBuild):
            told = _rustc_of_build(name, str(provenance_of(settings, store, locked).get("versions", "")))
        elif isinstance(component, SourceComponent) and component.path is not None:
            told = _rustc_of_folder(settings, component.path)
        if told is not None and told != component.rustc:
            raise Refused(
                f"component {name} {component.version} was built by rustc {told}, the recipe says {component.rustc}",
                resolution=f"correct components.{name}.rustc, or build it with that toolchain: `qtrade lock --update {name}`",
            )
    return pair


def _component(recipe: Recipe, role: str) -> Component | None:
    used = any(layer.role == role and role in layer.components for layer in recipe.layers)
    return recipe.components[role] if used else None


def _tag_of(component: Component) -> str:
    match component:
        case GithubComponent():
            return component.expand(component.tag)
        case SourceComponent(git=git) if git is not None:
            return component.expand(git.tag)
        case _:
            return f"v{component.version}"


def _release(found: re.Match[str]) -> Release:
    major, minor, patch = map(int, found["solana"].split("."))
    return Release((major, minor, patch), found["early"] or "")


def _declared_rustc(name: str, component: Component) -> str:
    if component.rustc is None:
        raise Refused(
            f"component {name} {component.version} does not say which rustc built it",
            resolution=f"write components.{name}.rustc: Yellowstone's release notes begin with `rust <version>`, "
            "Agave has it in rust-toolchain.toml",
        )
    return component.rustc


def _version_faults(pair: Pair) -> list[str]:
    plugin, validator = pair.plugin.solana, pair.validator
    if plugin.numbers[:2] != validator.numbers[:2]:
        return [f"the plugin is for Agave {plugin}, the validator is {validator}: another minor version"]
    if plugin.early or validator.early:
        return [] if pair.is_exact else [f"an early release fits itself only: {plugin} and {validator}"]
    if plugin.numbers > validator.numbers:
        return [f"the plugin is for Agave {plugin}, which is newer than the validator {validator}"]
    return []


def _rustc_faults(pair: Pair) -> list[str]:
    faults = []
    if pair.plugin_rustc != pair.validator_rustc:
        faults.append(f"the plugin is by rustc {pair.plugin_rustc}, the validator by rustc {pair.validator_rustc}")
    named = pair.plugin.rust
    if named and not f"{pair.plugin_rustc}.".startswith(f"{named}."):
        faults.append(f"the plugin's tag names Rust {named}, components.geyser.rustc says {pair.plugin_rustc}")
    return faults


def _variable_faults(recipe: Recipe) -> list[str]:
    faults = []
    for role in (PLUGIN, VALIDATOR):
        told, version = recipe.layer(role).vars.get(f"{role}_version"), recipe.components[role].version
        if told is not None and told != version:
            faults.append(f"the layer's {role}_version is {told}, components.{role}.version is {version}")
    return faults


def _why_no_tag(tag: str) -> str:
    if "-triton" in tag:
        return "it is built for rpcpool's fork of the validator, whose structures differ from Agave's"
    if not tag.startswith("v"):
        return "it does not begin with v"
    if "+solana." not in tag:
        return "it does not say +solana.A.B.C: upstream has mistyped tags (+solaan), and old ones do not name their validator"
    return "it does not have the form of a release"


def _rustc_of_build(name: str, versions: str) -> str:
    found = _RUSTC.search(versions)
    if found is None:
        raise Refused(
            f"the provenance of component {name} does not say which rustc built it",
            resolution=f'add "rustc +{{rustc}} --version" to components.{name}.build.versions and lock again',
        )
    return found[1]


def _rustc_of_folder(settings: Settings, path: str) -> str | None:
    source = settings.find(path)
    document = (source if source.is_dir() else source.parent) / "version.yml"
    if not document.is_file():
        return None
    fields = yaml.safe_load(document.read_text())
    told = fields.get("rustc") if isinstance(fields, dict) else None
    return None if told is None else str(told)
