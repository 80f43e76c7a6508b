"""Build a component from source: in a root of locked packages, without a network but for the declared fetch.

What comes out is kept by digest, with its provenance, and is used for ever: builds such as Agave's are not bit-identical when repeated,
so a version is built once and the same bytes are promoted.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from bake import pack
from bake.chamber import Chamber, Command, run_in_chamber
from bake.inputs import hash_folder
from bake.lock.cache import adopt, cached_path, check_bytes, sha256_of
from bake.lock.document import LockedBuild, LockedPackage, digest_packages
from bake.lock.git import check_out
from bake.lock.repository import make_repository
from bake.lock.wants import folder_digest
from bake.plan import digest_of
from bake.tools import ensure_tools
from qtrade import process
from qtrade.errors import BadInput, ToolError
from qtrade.manifest import Recipe
from qtrade.manifest.component import Build, SourceComponent
from qtrade.manifest.image import canonical_json
from qtrade.process import require_root
from qtrade.settings import Settings
from qtrade.store import BlobRecord, Store
from qtrade.toolsroot import debootstrap

PROVENANCE = "provenance.json"
_INSIDE = "/build"
_SOURCE = f"{_INSIDE}/source"
# qtrade's own files that shape what a build gives. The tests hold them against the imports of this module.
ENGINE_FILES = (
    "bake/chamber.py",
    "bake/components/builder.py",
    "bake/lock/git.py",
    "bake/lock/repository.py",
    "bake/pack.py",
    "qtrade/process.py",
    "qtrade/toolsroot.py",
)


@dataclass(frozen=True)
class BuildJob:
    """A build: the component, the packages of its builder root, for a Git source the commit, and the packages of the tools root."""

    recipe: Recipe
    name: str
    component: SourceComponent
    packages: tuple[LockedPackage, ...]
    commit: str | None
    tools: tuple[LockedPackage, ...]

    @property
    def build(self) -> Build:
        """The component's build."""
        if self.component.build is None:
            raise BadInput(f"component {self.name} has no build")
        return self.component.build


def build_key(settings: Settings, job: BuildJob) -> str:
    """Return the key of a build: source, builder root, commands, environment, engine."""
    code = Path(__file__).resolve().parents[2]
    engine = [hash_folder(code / name) for name in ENGINE_FILES]
    path = job.component.path
    source = job.commit if path is None else folder_digest(settings, job.name, path)
    parts = {"version", "git", "build", *(("rustc",) if job.component.rustc else ())}
    asked = job.component.model_dump(mode="json", include=parts)
    return digest_of(["build", engine, source, digest_packages(job.packages), asked, job.recipe.epoch])


def find_build(store: Store, key: str) -> BlobRecord | None:
    """Return what the key was built to, if it was."""
    return store.find_record(key)


def build_component(settings: Settings, store: Store, job: BuildJob, work: Path) -> LockedBuild:
    """Return the result of the build, from the store if this key was ever built, else built now (root, tools root).

    The .debs of the builder root are in the cache. Raises `ToolError` with the end of the build's output.
    """
    key = build_key(settings, job)
    record = find_build(store, key)
    if record is None:
        require_root("building a component")
        record = _build(settings, store, job, key, work)
    return LockedBuild(
        version=job.component.version,
        tag=job.component.expand(job.component.git.tag) if job.component.git else None,
        commit=job.commit,
        key=key,
        file=f"{job.name}.tar",
        sha256=record.digest,
        size=record.size,
        provenance=record.facts["provenance"],
    )


def _build(settings: Settings, store: Store, job: BuildJob, key: str, work: Path) -> BlobRecord:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    root = _builder_root(settings, job, work)
    source, home = work / "source", work / "home"
    home.mkdir()
    _lay_source(settings, job, source)
    log = settings.state_dir / "logs" / f"build-{job.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    chamber = Chamber(
        folder=work,
        layers=(root,),
        commands=(
            *((Command(_command(work, job, job.build.fetch), has_network=True),) if job.build.fetch else ()),
            Command(_command(work, job, _with_versions(job.build))),
        ),
        binds={str(source): _SOURCE, str(home): f"{_INSIDE}/home"},
    )
    environment = {
        "HOME": f"{_INSIDE}/home",
        "SOURCE_DATE_EPOCH": str(job.recipe.epoch),
        "QTRADE_COMMIT": job.commit or "",
        **{name: job.component.expand(value) for name, value in job.build.environment.items()},
    }
    with log.open("w") as sink:
        try:
            run_in_chamber(
                chamber,
                env=environment,
                timeout_s=job.build.timeout_s,
                on_line=lambda line: print(line, file=sink, flush=True),
            )
        except ToolError as error:
            field = f"components.{job.name}.build"
            raise process.explain(
                error,
                f"the build of component {job.name}",
                mend=f"read {log}, correct {field} in the recipe and run `qtrade lock` again",
                longer=f"read {log}; if it needs longer, raise {field}.timeout_s in the recipe and run `qtrade lock` again",
            ) from error
    archive = _archive(job, source, work / f"{job.name}.tar")
    record = _keep(settings, store, job, key, archive, (home / "versions").read_text())
    shutil.rmtree(work)
    return record


def _builder_root(settings: Settings, job: BuildJob, work: Path) -> Path:
    """Return the builder root as an EROFS file; the same packages give the same root, which is made once."""
    key = digest_of(["builder", job.recipe.base.suite, digest_packages(job.packages)])
    target = settings.cache_dir / "builders" / f"{key}.erofs"
    mark = target.with_suffix(".sha256")
    if target.is_file() and mark.is_file():
        check_bytes(target, mark.read_text(), what=f"the builder root of component {job.name}")
        return target
    suite = job.recipe.base.suite
    make_repository(settings, job.packages, suite=suite, target=work / "repository")
    tree = work / "builder"
    names = tuple(package.name for package in job.packages)
    debootstrap(settings, suite, names, tree, epoch=job.recipe.epoch, repository=work / "repository")
    for leftover in ("etc/dpkg/dpkg.cfg.d/99mmdebstrap", "etc/resolv.conf"):
        (tree / leftover).unlink(missing_ok=True)
    (tree / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    packed = pack.pack_layer(
        ensure_tools(settings, job.tools), tree, work / "builder.erofs", name="builder", epoch=job.recipe.epoch
    )
    shutil.rmtree(tree)
    target.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(packed.digest)
    packed.path.replace(target)
    return target


def _lay_source(settings: Settings, job: BuildJob, target: Path) -> None:
    git = job.component.git
    if git is not None and job.commit is not None:
        check_out(job.name, git.url, job.component.expand(git.tag), job.commit, target)
    elif job.component.path is not None:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "README.md")
        shutil.copytree(settings.find(job.component.path), target, symlinks=True, ignore=ignored)


def _with_versions(build: Build) -> str:
    lines = "; ".join(f"echo '$ {command}' && {command}" for command in build.versions) or "true"
    return f"{{ {lines}; }} >{_INSIDE}/home/versions\n{build.command}"


def _command(work: Path, job: BuildJob, text: str) -> tuple[str, ...]:
    return ("chroot", str(work / "root"), "/bin/sh", "-euc", f"cd {_SOURCE}\n{job.component.expand(text)}")


def _archive(job: BuildJob, source: Path, target: Path) -> Path:
    """Pack what the build declares as output: names sorted, times clamped, owned by root."""
    output = (source / job.component.expand(job.build.output)).resolve()
    if not output.exists() or not output.is_relative_to(source.resolve()):
        raise BadInput(
            f"component {job.name}: the build left no {job.build.output}",
            resolution=f"correct components.{job.name}.build.output in the recipe; it is relative to the source folder",
        )
    folder, member = (output, ".") if output.is_dir() else (output.parent, output.name)
    argv = [
        "tar",
        "--sort=name",
        "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
    ]
    argv += [f"--mtime=@{job.recipe.epoch}", "--owner=0", "--group=0", "--numeric-owner", "--exclude=.git"]
    process.run([*argv, "-C", str(folder), "-cf", str(target), member])
    return target


def _keep(settings: Settings, store: Store, job: BuildJob, key: str, archive: Path, versions: str) -> BlobRecord:
    digest, size = sha256_of(archive), archive.stat().st_size
    provenance = archive.with_name(PROVENANCE)
    provenance.write_text(canonical_json(_describe(settings, job, key, digest, versions)) + "\n")
    document = sha256_of(provenance)
    record = BlobRecord(key, job.name, digest, size, facts={"provenance": document})
    for path, name in ((provenance, document), (archive, digest)):
        adopt(path, settings, name)
        store.add_blob(path, name)
    store.add_record(record)
    return record


def _describe(settings: Settings, job: BuildJob, key: str, digest: str, versions: str) -> dict[str, object]:
    """Return the provenance: everything that went in, and what came out."""
    git, path = job.component.git, job.component.path
    source: dict[str, object]
    if git is not None:
        source = {"git": git.url, "tag": job.component.expand(git.tag), "commit": job.commit}
    else:
        source = {"path": path, "sha256": folder_digest(settings, job.name, str(path))}
    return {
        "schema_version": 1,
        "component": job.name,
        "version": job.component.version,
        "key": key,
        "source": source,
        "builder": [[*package.identity, package.sha256] for package in job.packages],
        "fetch": job.component.expand(job.build.fetch),
        "command": job.component.expand(job.build.command),
        "environment": job.build.environment,
        "versions": versions,
        "epoch": job.recipe.epoch,
        "output": digest,
    }


def provenance_of(settings: Settings, store: Store, locked: LockedBuild) -> dict[str, object]:
    """Return the provenance document of a build. Raises `NotFound`, `TrustError`."""
    path = cached_path(settings, locked.provenance, PROVENANCE)
    path = path if path.is_file() else store.open_blob(locked.provenance)
    check_bytes(path, locked.provenance, what="the provenance of a build")
    document: dict[str, object] = json.loads(path.read_text())
    return document
