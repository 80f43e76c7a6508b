"""Check one finished layer, on what it stands on and nothing else: the seal's scan of its files, and its role's specs."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from bake.chamber import Chamber, Command, run_in_chamber
from bake.ids import Ids
from bake.inputs import hash_folder
from bake.plan import digest_of
from bake.seal.allow import load_policy
from bake.unsealed import Unsealed
from qtrade.errors import QtradeError, Refused, ToolError
from qtrade.manifest import Recipe, load_manifest
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.specs import Mark, read_report, spec_command
from qtrade.store import BlobRecord

POLICY = "manifests/seal.yaml"
# The ids that every Debian has (base-passwd): below 100, and nobody.
_DEBIAN_IDS = (*range(100), 65534)


def check_key(settings: Settings, recipe: Recipe, role: str, done: Mapping[str, BlobRecord]) -> str:
    """Return the key of a layer's check: the blobs that it looks at, and everything that looks."""
    code = Path(__file__).resolve().parent
    return digest_of(
        {
            "layers": [done[name].digest for name in (*recipe.ancestors(role), role)],
            "specs": hash_folder(settings.ansible / "roles" / role / "specs"),
            "settings": hash_folder(settings.ansible / "specs.ini"),
            "ids": hash_folder(settings.find("manifests/ids.yaml")),
            "policy": hash_folder(settings.find(POLICY)),
            "code": [hash_folder(code / "seal"), hash_folder(code / "check.py")],
        }
    )


def check_layer(
    settings: Settings,
    unsealed: Unsealed,
    recipe: Recipe,
    role: str,
    done: Mapping[str, BlobRecord],
    reporter: Reporter,
) -> BlobRecord:
    """Check the layer of `role` and remember that it passed. `done` has the layer and all that it stands on.

    The layer goes to the store when the seal has found nothing, whatever its specs say then.

    Raises `Refused`, naming path and finding of the scan, or spec and message of each failure.
    """
    from bake.seal import scan  # noqa: PLC0415 - its patterns take time, and most bakes check nothing

    key = check_key(settings, recipe, role, done)
    work = settings.work_dir / f"check-{role}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    blobs = tuple(unsealed.open_blob(done[name].digest) for name in (*recipe.ancestors(role), role))
    ids, findings, report = work / "ids.json", work / "findings.json", work / "report.xml"
    ids.write_text(json.dumps(_known_ids(settings)))
    folder = Chamber(work, blobs, ()).top
    seal = (sys.executable, "-IB", scan.__file__, str(folder), str(ids), str(findings))
    commands = [Command(seal)]
    if (settings.ansible / "roles" / role / "specs").is_dir():
        target = (f"--hosts={work / 'root'}", "--connection=chroot")
        commands.append(Command(spec_command(settings.ansible, (role,), (Mark.LAYER,), target, report)))
    problem: QtradeError | None = None
    with reporter.step(f"check {role}"):
        try:
            run_in_chamber(Chamber(work, blobs, tuple(commands)), env={}, timeout_s=900)
        except ToolError as error:
            problem = error
        if findings.exists():
            refuse_findings(settings, f"layer {role}", json.loads(findings.read_text()))
        if problem and not report.exists():
            raise problem
    unsealed.release(done[role])
    ran = _read_specs(role, report, problem) if len(commands) > 1 else 0
    record = BlobRecord(key, f"check {role}", facts={"ran": str(ran)})
    unsealed.store.add_record(record)
    shutil.rmtree(work)
    return record


def _known_ids(settings: Settings) -> dict[str, list[int]]:
    table = load_manifest(Ids, settings.find("manifests/ids.yaml"))
    return {
        "uids": sorted({*_DEBIAN_IDS, *(user.uid for user in table.users)}),
        "gids": sorted({*_DEBIAN_IDS, *(group.gid for group in table.groups)}),
    }


def refuse_findings(
    settings: Settings, where: str, findings: list[dict[str, str]], *, change: str = "the role"
) -> None:
    """Raise `Refused` for what the seal found in `where`, unless the project's policy lets it pass. `change` names what puts it there."""
    policy = load_policy(settings.find(POLICY))
    left = [item for item in findings if not policy.allows(item["path"], item["what"])]
    if left:
        raise Refused(
            f"the seal found {len(left)} thing(s) in {where} that no image may hold",
            details="\n".join(f"  {where.removeprefix('layer ')}: {item['path']}: {item['what']}" for item in left),
            resolution=f"change {change} so that it leaves them out; secrets and identities belong to the host, not the image",
        )


def _read_specs(role: str, report: Path, problem: QtradeError | None) -> int:
    result = read_report(report)
    if result.failures or problem:
        raise Refused(
            f"{len(result.failures)} of {result.ran} specs fail on layer {role}",
            details="\n".join(f"  {owner}: {test}: {message}" for owner, test, message in result.failures)
            or (problem.details or problem.brief if problem else ""),
            resolution="mend the role, or its spec where the spec is wrong, and bake again",
        )
    return result.ran
