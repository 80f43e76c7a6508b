"""Make one layer: the overlay of its needs, its role run by Packer and Ansible, the upper directory packed."""

import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bake import pack, packer
from bake.chamber import KNOWN_VAR, Chamber, Command, run_in_chamber
from bake.components import Fetched
from bake.interfaces import interface_facts
from bake.lock.document import LockedPackage
from bake.lock.repository import make_repository, source_line
from bake.unsealed import Unsealed
from qtrade import clock, process
from qtrade.errors import ToolError
from qtrade.manifest import Recipe, RecipeLayer
from qtrade.reporter import ConsoleReporter
from qtrade.settings import Settings
from qtrade.store import BlobRecord
from qtrade.toolsroot import ToolsRoot

_COMPONENTS = "/run/qtrade/components"
_APT = "/run/qtrade/apt"


@dataclass(frozen=True)
class LayerJob:
    """What `make_layer` needs to know of a layer.

    `needs` are the blobs below it, `compare_needs` returns when each was found to be what its digest says, or raises.
    """

    recipe: Recipe
    layer: RecipeLayer
    key: str
    needs: tuple[Path, ...]
    components: Mapping[str, Fetched]
    packages: tuple[LockedPackage, ...] = ()
    compare_needs: Callable[[], object] = tuple


def make_layer(settings: Settings, tools: ToolsRoot, unsealed: Unsealed, job: LayerJob) -> BlobRecord:
    """Make the layer and keep it back for the seal (root).

    Raises `ToolError` with the end of the role's output, `TrustError` for a damaged blob below it.
    """
    from bake.components.take import take_components  # noqa: PLC0415 - a bake that makes nothing takes nothing

    role = job.layer.role
    work = settings.work_dir / f"layer-{role}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log = settings.state_dir / "logs" / f"layer-{role}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    components = take_components(settings, unsealed.store, job.components, job.layer.components, work / "components")
    build = _packer_build(settings, work, job, components)
    build.prepare()
    chamber = Chamber(
        folder=work,
        layers=job.needs,
        commands=(*index_commands(work, job.layer), Command(build.argv())),
        binds=layer_binds(settings, work, job, components),
    )
    env = {
        **packer.environment(work),
        "ANSIBLE_CONFIG": str(settings.ansible / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(work / "ansible"),
        "SOURCE_DATE_EPOCH": str(job.recipe.epoch),
        "DEBIAN_FRONTEND": "noninteractive",
        "PYTHONDONTWRITEBYTECODE": "1",
        "APT_CONFIG": f"{_APT}/apt.conf" if job.layer.packages else "/dev/null",
    }
    with log.open("w") as sink:
        try:
            run_in_chamber(
                chamber,
                env=env,
                timeout_s=job.layer.timeout_s,
                on_line=lambda line: print(line, file=sink, flush=True),
            )
        except ToolError as error:
            job.compare_needs()
            keep_failed(settings, role, job.key, chamber.upper)
            look = f"read {log} or look around with `qtrade bake shell {role}`"
            raise process.explain(
                error,
                f"layer {role}",
                mend=f"{look}; mend the role and bake again",
                longer=f"{look}; if it needs longer, raise timeout_s of the layer in the recipe",
            ) from error
    build.check_result()
    known = frozenset((work / KNOWN_VAR).read_text().splitlines())
    packed = pack.pack_layer(
        tools, chamber.upper, work / f"{role}.erofs", name=role, epoch=job.recipe.epoch, known_var=known
    )
    job.compare_needs()
    facts = interface_facts(chamber.upper, role)
    record = BlobRecord(job.key, role, packed.digest, packed.size, packed.verity, facts)
    unsealed.add(packed.path, record, packed.paths)
    shutil.rmtree(failed_folder(settings, role), ignore_errors=True)
    shutil.rmtree(work)
    return record


def keep_failed(settings: Settings, role: str, key: str, upper: Path) -> None:
    """Keep what a failed role had changed, for `qtrade bake shell`."""
    kept = failed_folder(settings, role)
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    upper.rename(kept / "upper")
    (kept / "key").write_text(key)


def failed_folder(settings: Settings, role: str) -> Path:
    """Return where what a failed role had changed is kept: `upper/`, and the layer's `key`."""
    return settings.state_dir / "failed" / role


def _packer_build(settings: Settings, work: Path, job: LayerJob, components: Mapping[str, Path]) -> packer.PackerBuild:
    role = job.layer.role
    inventory = work / "inventory.yml"
    chroot = work / "chroot"
    chroot.write_text(f'#!/bin/sh\nexec {shlex.join(clock.shifted(("chroot",)))} "$@"\n')
    chroot.chmod(0o755)
    host = {
        "ansible_host": str(work / "root"),
        "ansible_connection": "community.general.chroot",
        "ansible_chroot_exe": str(chroot),
    }
    inventory.write_text(json.dumps({"all": {"hosts": {role: host}}}))
    variables = work / "vars.json"
    document = {
        **job.layer.vars,
        **job.layer.toggles,
        "qtrade_packages": list(job.layer.packages),
        "qtrade_components": {name: _inside(name, path) for name, path in components.items()},
        "qtrade_epoch": job.recipe.epoch,
    }
    variables.write_text(json.dumps(document))
    values = {
        "role": role,
        "root": str(work / "root"),
        "playbook": str(settings.ansible / f"playbooks/{role}.yml"),
        "inventory": str(inventory),
        "vars_file": str(variables),
    }
    return packer.PackerBuild(packer.locate(settings), settings.find("packer/layer"), values, work / "manifest.json")


def index_commands(work: Path, layer: RecipeLayer) -> tuple[Command, ...]:
    """Return the command that makes apt's index of the locked packages; the role then installs them."""
    if not layer.packages:
        return ()
    return (Command(("chroot", str(work / "root"), "apt-get", "update", "-qq")),)


def layer_binds(settings: Settings, work: Path, job: LayerJob, components: Mapping[str, Path]) -> dict[str, str]:
    """Return what is bound into the root while the layer is made: its components, and the locked packages for apt."""
    binds = {str(path): _inside(name, path) for name, path in components.items()} | clock.binds()
    if not job.layer.packages:
        return binds
    from bake.lock.debs import have_packages  # noqa: PLC0415 - a bake that makes nothing needs no downloads

    suite = job.recipe.base.suite
    folder = work / "apt"
    for name in ("cache/archives/partial", "lists/partial"):
        (folder / name).mkdir(parents=True)
    have_packages(settings, job.packages, ConsoleReporter(quiet=True), suite=suite)
    make_repository(settings, job.packages, suite=suite, target=folder / "repository")
    (folder / "sources.list").write_text(source_line(f"file:{_APT}/repository", suite) + "\n")
    (folder / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{_APT}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        'Acquire::Languages "none";\nAPT::Install-Recommends "false";\nAPT::Sandbox::User "root";\n'
    )
    binds |= {str(folder): _APT, str(folder / "lists"): "/var/lib/apt/lists", str(folder / "cache"): "/var/cache/apt"}
    return binds


def _inside(name: str, path: Path) -> str:
    suffix = "" if path.is_dir() else path.suffix
    return f"{_COMPONENTS}/{name}{suffix}"
