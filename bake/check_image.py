"""Check all layers of an image together: the roles' specs that hold only where several roles meet.

Layers are checked one by one, each on what it needs; roles that load, call or feed each other are often siblings there.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from bake.chamber import Chamber, Command, run_in_chamber
from bake.inputs import hash_folder
from bake.plan import digest_of
from qtrade.errors import QtradeError, Refused, ToolError
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.process import require_root
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.specs import Mark, read_report, spec_command
from qtrade.store import BlobRecord, Store


def image_check_key(settings: Settings, recipe: Recipe, roles: tuple[str, ...], done: Mapping[str, BlobRecord]) -> str:
    """Return the key of the check: every layer, and everything that looks at them."""
    return digest_of(
        {
            "layers": [done[name].digest for name in _all_layers(recipe)],
            "specs": {role: hash_folder(settings.project / "ansible/roles" / role / "specs") for role in roles},
            "settings": hash_folder(settings.project / "ansible/specs.ini"),
            "code": hash_folder(Path(__file__).resolve()),
        }
    )


def check_image(
    settings: Settings, store: Store, recipe: Recipe, done: Mapping[str, BlobRecord], reporter: Reporter
) -> int:
    """Run the specs with mark `image` on all layers and remember that they passed; return how many ran. Raises `Refused`."""
    roles = tuple(layer.role for layer in recipe.layers if _has_image_specs(settings, layer.role))
    if not roles:
        return 0
    key = image_check_key(settings, recipe, roles, done)
    passed = store.find_record(key)
    if passed is not None:
        return int(passed.facts["ran"])
    require_root("a bake that checks layers")
    with reporter.step("check image"):
        ran = _run_specs(settings, store, recipe, roles, done)
    store.add_record(BlobRecord(key, "check image", facts={"ran": str(ran)}))
    return ran


def _run_specs(
    settings: Settings, store: Store, recipe: Recipe, roles: tuple[str, ...], done: Mapping[str, BlobRecord]
) -> int:
    work = settings.work_dir / "check-image"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    report = work / "report.xml"
    blobs = tuple(store.open_blob(done[name].digest) for name in _all_layers(recipe))
    target = (f"--hosts={work / 'root'}", "--connection=chroot")
    command = Command(spec_command(settings.project, roles, (Mark.IMAGE,), target, report))
    problem: QtradeError | None = None
    try:
        run_in_chamber(Chamber(work, blobs, (command,)), env={}, timeout_s=900)
    except ToolError as error:
        if not report.exists():
            raise
        problem = error
    result = read_report(report)
    if result.failures or problem:
        raise Refused(
            f"{len(result.failures)} of {result.ran} specs fail on the layers of {recipe.name} together",
            details="\n".join(f"  {owner}: {test}: {message}" for owner, test, message in result.failures)
            or (problem.details if problem else ""),
            resolution="mend the roles, or the spec where it is wrong, and bake again",
        )
    shutil.rmtree(work)
    return result.ran


def _all_layers(recipe: Recipe) -> tuple[str, ...]:
    return (BASE, *(layer.role for layer in recipe.layers))


def _has_image_specs(settings: Settings, role: str) -> bool:
    folder = settings.project / "ansible/roles" / role / "specs"
    return any(f"pytest.mark.{Mark.IMAGE}" in path.read_text() for path in sorted(folder.glob("test_*.py")))
