"""Check layers together: the specs of a role that hold only where it meets others.

Layers are checked one by one, each on what it needs; roles that load, call or feed each other are often siblings there. A role with such
specs (mark `image`) declares in `specs/image.yml` whom they meet: `needs` are roles whose layers they load or call, `interfaces` those
whose declared interfaces they read. They run where those layers are, its own, all that these stand on, and those declarations, but nothing
else: what a spec looks at is in the key of its check, or not there.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bake.chamber import Chamber, Command, run_in_chamber
from bake.inputs import hash_folder
from bake.interfaces import lay_interfaces, read_interfaces
from bake.plan import digest_of
from bake.roles import ImageSpecs
from bake.unsealed import Unsealed
from qtrade.errors import BadInput, QtradeError, Refused, ToolError
from qtrade.manifest import Recipe, load_manifest
from qtrade.manifest.recipe import BASE
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.specs import Mark, read_report, spec_command
from qtrade.store import BlobRecord

_DECLARATION = "image.yml"
# What runs the specs, below the folder that holds `bake`.
_CODE = ("bake/check_image.py", "bake/interfaces.py", "bake/chamber.py", "qtrade/specs/run.py")


@dataclass(frozen=True)
class ImageCheck:
    """The specs of one role, the layers that they run on, lowest first, and the roles of which they read the interfaces."""

    role: str
    layers: tuple[str, ...]
    interfaces: tuple[str, ...] = ()

    @property
    def looks_at(self) -> frozenset[str]:
        """The names of all layers that have to be made before the specs can run."""
        return frozenset((*self.layers, *self.interfaces))


def list_image_checks(settings: Settings, recipe: Recipe) -> tuple[ImageCheck, ...]:
    """Return the checks of a recipe. Raises `BadInput` for a role that does not say whom its specs need, or needs one that is not there."""
    present = [layer.role for layer in recipe.layers]
    checks = []
    for role in present:
        declaration = settings.ansible / "roles" / role / "specs" / _DECLARATION
        if not _is_declared(declaration):
            continue
        met = load_manifest(ImageSpecs, declaration)
        absent = [name for name in (*met.needs, *met.interfaces) if name not in present]
        if absent:
            raise BadInput(
                f"recipe {recipe.name}: the specs of {role} need layer {absent[0]}, which the recipe does not have",
                details=f"  {declaration} names: {', '.join((*met.needs, *met.interfaces))}\n  layers: {', '.join(present)}",
                resolution=f"add {absent[0]} to the recipe's layers, or leave {role} out",
            )
        wanted = {name for top in (role, *met.needs) for name in (*recipe.ancestors(top), top)}
        ordered = tuple(name for name in (BASE, *present) if name in wanted)
        checks.append(ImageCheck(role, ordered, tuple(sorted(set(met.interfaces) - wanted))))
    return tuple(checks)


def image_check_key(settings: Settings, check: ImageCheck, done: Mapping[str, BlobRecord]) -> str:
    """Return the key of a check: every layer that is there, and everything that looks at them."""
    code = Path(__file__).resolve().parent.parent
    return digest_of(
        {
            "layers": [done[name].digest for name in check.layers],
            "interfaces": {name: read_interfaces(done[name]) for name in check.interfaces},
            "role": check.role,
            "specs": hash_folder(settings.ansible / "roles" / check.role / "specs"),
            "settings": hash_folder(settings.ansible / "specs.ini"),
            "code": [hash_folder(code / path) for path in _CODE],
        }
    )


def run_image_check(
    settings: Settings, unsealed: Unsealed, check: ImageCheck, done: Mapping[str, BlobRecord], reporter: Reporter
) -> BlobRecord:
    """Run a check, and remember its pass. `done` has what it looks at. Raises `Refused` naming spec and message of each failure."""
    with reporter.step(f"check image {check.role}"):
        facts = _run_specs(settings, unsealed, check, done)
    record = BlobRecord(image_check_key(settings, check, done), check.role, facts=facts)
    unsealed.store.add_record(record)
    return record


def count_image_specs(recipe: Recipe, passed: Iterable[BlobRecord], reporter: Reporter) -> int:
    """Return how many specs held in the checks that passed.

    A spec that is skipped proves nothing: it is said at each bake, and `Refused` for a recipe without stand-ins.
    """
    return sum(_count(recipe, record, reporter) for record in sorted(passed, key=lambda record: record.name))


def _count(recipe: Recipe, record: BlobRecord, reporter: Reporter) -> int:
    skipped = record.facts["skipped"]
    if skipped and not any(component.standin for component in recipe.components.values()):
        raise Refused(
            f"recipe {recipe.name} has no stand-ins, but specs of {record.name} were skipped: nothing shows that its layers fit",
            details=skipped,
            resolution="bake what the specs miss, as the messages say; an image for production has to pass all of them",
        )
    if skipped:
        reporter.say(
            f"NOT PROVEN: specs of {record.name} were skipped, so nothing shows that its layers fit\n{skipped}"
        )
    return int(record.facts["ran"])


def _run_specs(
    settings: Settings, unsealed: Unsealed, check: ImageCheck, done: Mapping[str, BlobRecord]
) -> dict[str, str]:
    work = settings.work_dir / f"check-image-{check.role}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    report = work / "report.xml"
    blobs = tuple(unsealed.open_blob(done[name].digest) for name in check.layers)
    target = (f"--hosts={work / 'root'}", "--connection=chroot")
    command = Command(spec_command(settings.ansible, (check.role,), (Mark.IMAGE,), target, report))
    chamber = Chamber(work, blobs, (command,))
    for name in check.interfaces:
        lay_interfaces(chamber.upper, done[name])
    problem: QtradeError | None = None
    try:
        run_in_chamber(chamber, env={}, timeout_s=900)
    except ToolError as error:
        if not report.exists():
            raise
        problem = error
    result = read_report(report)
    if result.failures or problem:
        raise Refused(
            f"{len(result.failures)} of {result.ran} specs of {check.role} fail on the layers {', '.join(check.layers)} together"
            + (f", with the interfaces of {', '.join(check.interfaces)}" if check.interfaces else ""),
            details=_list_specs(result.failures) or (problem.details or problem.brief if problem else ""),
            resolution="mend the roles or their components, or the spec where it is wrong, and bake again; "
            f"the layers that the specs may look at stand in {_DECLARATION} beside them",
        )
    shutil.rmtree(work)
    return {"ran": str(result.ran), "skipped": _list_specs(result.skipped)}


def _list_specs(specs: tuple[tuple[str, str, str], ...]) -> str:
    return "\n".join(f"  {owner}: {test}: {message}" for owner, test, message in specs)


def _is_declared(declaration: Path) -> bool:
    """Return whether the role beside whose specs `declaration` stands has such specs. Raises `BadInput` for one without the other."""
    mark = f"pytest.mark.{Mark.IMAGE}"
    has_specs = any(mark in path.read_text() for path in sorted(declaration.parent.glob("test_*.py")))
    if has_specs != declaration.is_file():
        said = f"there is no {declaration.name}" if has_specs else f"no spec has the mark {Mark.IMAGE}"
        raise BadInput(
            f"{declaration.parent}: {said}",
            details=f"specs with the mark {Mark.IMAGE} run on the layers that {declaration.name} declares, and on no other",
            resolution=f"write {declaration.name}: `needs: [ROLE]` with the roles that they load or call, `interfaces: [ROLE]` with "
            "those whose declared interfaces they read"
            if has_specs
            else f"remove {declaration.name}",
        )
    return has_specs
