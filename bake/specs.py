"""Run the roles' specs on the finished layers, stacked as on a host, before anything is published."""

import shutil

from bake.chamber import Chamber, run_in_chamber
from bake.inputs import hash_folder
from bake.plan import digest_of
from qtrade.errors import QtradeError, Refused, ToolError
from qtrade.manifest import Image, Recipe
from qtrade.process import require_root
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.specs import Mark, read_report, spec_command
from qtrade.store import BlobRecord, Store


def check_layers(settings: Settings, store: Store, recipe: Recipe, image: Image, reporter: Reporter) -> None:
    """Run the specs with mark `layer` in a chroot of all layers; the same specs on the same image run once.

    Raises `Refused`, naming role, spec and message of each failure.
    """
    roles = tuple(layer.role for layer in recipe.layers)
    specs = {role: hash_folder(settings.project / "ansible/roles" / role / "specs") for role in roles}
    key = digest_of(["specs", image.id, specs])
    if store.find_record(key):
        return
    require_root("a bake that checks layers")
    work = settings.work_dir / "specs"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    report = work / "report.xml"
    target = (f"--hosts={work / 'root'}", "--connection=chroot")
    command = spec_command(settings.project, roles, (Mark.LAYER,), target, report)
    blobs = tuple(store.open_blob(layer.digest) for layer in image.layers)
    with reporter.step("specs on the layers"):
        problem: QtradeError | None = None
        try:
            run_in_chamber(Chamber(folder=work, layers=blobs, command=command), env={}, timeout_s=900)
        except ToolError as error:
            problem = error
        if problem and not report.exists():
            raise problem
    result = read_report(report)
    if result.failures or problem:
        raise Refused(
            f"{len(result.failures)} of {result.ran} specs fail on the layers",
            details="\n".join(f"  {role}: {test}: {message}" for role, test, message in result.failures),
            resolution="mend the role, or its spec where the spec is wrong, and bake again",
        )
    store.add_record(BlobRecord(key, "specs", facts={"ran": str(result.ran)}))
    shutil.rmtree(work)
