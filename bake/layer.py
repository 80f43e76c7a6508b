"""Make one layer: the overlay of its needs, its role run by Packer and Ansible, the upper directory packed."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bake import pack, packer
from bake.base import index_folder
from bake.chamber import KNOWN_VAR, Chamber, run_in_chamber
from bake.components import Fetched
from qtrade.errors import ToolError
from qtrade.manifest import Recipe, RecipeLayer
from qtrade.settings import Settings
from qtrade.store import BlobRecord, Store
from qtrade.toolsroot import ToolsRoot

_COMPONENTS = "/run/qtrade/components"
_TIMEOUT_S = 1800


@dataclass(frozen=True)
class LayerJob:
    """What `make_layer` needs to know of a layer."""

    recipe: Recipe
    layer: RecipeLayer
    key: str
    base_key: str
    needs: tuple[Path, ...]
    components: Mapping[str, Fetched]


def make_layer(settings: Settings, tools: ToolsRoot, store: Store, job: LayerJob) -> BlobRecord:
    """Make the layer and put it into the store (root). Raises `ToolError` with the end of the role's output."""
    role = job.layer.role
    work = settings.work_dir / f"layer-{role}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log = settings.state_dir / "logs" / f"layer-{role}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    build = _packer_build(settings, work, job)
    chamber = Chamber(
        folder=work,
        layers=job.needs,
        fetch=_fetch_command(work, job.layer),
        command=build.argv(),
        binds=_binds(settings, work, job),
    )
    env = {
        **packer.environment(work),
        "ANSIBLE_CONFIG": str(settings.project / "ansible/ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(work / "ansible"),
        "SOURCE_DATE_EPOCH": str(job.recipe.epoch),
        "DEBIAN_FRONTEND": "noninteractive",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with log.open("w") as sink:
        try:
            run_in_chamber(
                chamber, env=env, timeout_s=_TIMEOUT_S, on_line=lambda line: print(line, file=sink, flush=True)
            )
        except ToolError as error:
            raise ToolError(
                f"layer {role} failed", details=error.details, resolution=f"read {log}, mend the role and bake again"
            ) from error
    build.check_result()
    known = frozenset((work / KNOWN_VAR).read_text().splitlines())
    packed = pack.pack_layer(
        tools, chamber.upper, work / f"{role}.erofs", name=role, epoch=job.recipe.epoch, known_var=known
    )
    record = BlobRecord(job.key, role, packed.digest, packed.size, packed.verity, packed.paths)
    store.add_blob(packed.path, packed.digest)
    store.add_record(record)
    shutil.rmtree(work)
    return record


def _packer_build(settings: Settings, work: Path, job: LayerJob) -> packer.PackerBuild:
    role = job.layer.role
    inventory = work / "inventory.yml"
    inventory.write_text(
        json.dumps(
            {
                "all": {
                    "hosts": {
                        role: {"ansible_host": str(work / "root"), "ansible_connection": "community.general.chroot"}
                    }
                }
            }
        )
    )
    variables = work / "vars.json"
    document = {
        **job.layer.vars,
        **job.layer.toggles,
        "qtrade_packages": list(job.layer.packages),
        "qtrade_components": {name: _inside(job.components[name]) for name in job.layer.components},
        "qtrade_epoch": job.recipe.epoch,
    }
    variables.write_text(json.dumps(document))
    values = {
        "role": role,
        "root": str(work / "root"),
        "playbook": str(settings.project / f"ansible/playbooks/{role}.yml"),
        "inventory": str(inventory),
        "vars_file": str(variables),
    }
    return packer.PackerBuild(
        packer.locate(settings), settings.project / "packer/layer", values, work / "manifest.json"
    )


def _fetch_command(work: Path, layer: RecipeLayer) -> tuple[str, ...]:
    """Return the command that downloads the layer's packages; the role then installs them without a network."""
    if not layer.packages:
        return ()
    options = ("-o", "Acquire::Retries=3", "-o", "APT::Install-Recommends=false", "-o", "Debug::NoLocking=1")
    return (
        "chroot",
        str(work / "root"),
        "apt-get",
        "install",
        "--yes",
        "-qq",
        "--download-only",
        *options,
        *layer.packages,
    )


def _binds(settings: Settings, work: Path, job: LayerJob) -> dict[str, str]:
    binds = {
        str(fetched.path): _inside(fetched) for name, fetched in job.components.items() if name in job.layer.components
    }
    if job.layer.packages:
        archives = settings.cache_dir / "debs" / job.recipe.base.suite
        cache = work / "apt-cache"
        (cache / "archives").mkdir(parents=True)
        archives.mkdir(parents=True, exist_ok=True)
        binds[str(index_folder(settings, job.base_key))] = "/var/lib/apt/lists"
        binds[str(cache)] = "/var/cache/apt"
        binds[str(archives)] = "/var/cache/apt/archives"
    return binds


def _inside(fetched: Fetched) -> str:
    suffix = "" if fetched.path.is_dir() else fetched.path.suffix
    return f"{_COMPONENTS}/{fetched.name}{suffix}"
