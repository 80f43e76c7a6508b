"""Which Debian packages a recipe needs: asked of apt itself, over the suite's signed index, on top of an empty or a pretended root.

mmdebstrap gives a folder with the suite's sources and its verified index, and no mirror is named here. apt then says what it would
install; a package that is "there already" is a paragraph in a status file.
"""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from debian.debian_support import NativeVersion

from bake.lock.document import LockedPackage
from bake.lock.repository import make_repository, source_line
from qtrade import process
from qtrade.errors import NotFound, ToolError
from qtrade.manifest import Recipe
from qtrade.manifest.recipe import BASE
from qtrade.settings import Settings
from qtrade.toolsroot import PACKAGES

Identity = tuple[str, str, str]

_INSTALL = re.compile(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) .*\[(\w+)\]\)")


@dataclass
class Archive:
    """The packages of one suite: apt's view of them in `root`, and their paragraphs by identity."""

    root: Path
    suite: str
    paragraphs: dict[Identity, str] = field(default_factory=dict)
    pins: dict[str, str] = field(default_factory=dict)

    def resolve(self, wanted: Iterable[str], installed: Iterable[LockedPackage] = ()) -> tuple[LockedPackage, ...]:
        """Return what apt would install for `wanted`, without recommends, where `installed` is there. Raises `ToolError`."""
        status = self.root / "status"
        status.write_text("".join(f"{self._pretend(package)}\n" for package in installed))
        preferences = self.root / "pins"
        preferences.write_text(
            "".join(
                f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n"
                for name, version in self.pins.items()
            )
        )
        options = {"Dir::State::status": status, "Dir::Etc::preferences": preferences}
        try:
            done = self._apt("install", "--simulate", "--yes", *wanted, **options)
        except ToolError as error:
            raise ToolError(
                f"apt finds no way to install {' '.join(name for name in wanted if not name.startswith('?'))} from {self.suite}",
                details=error.details,
                resolution="correct the packages in the recipe; if locked versions stand in the way, `qtrade lock --update`",
            ) from error
        found = [match.groups() for line in done.splitlines() if (match := _INSTALL.match(line))]
        return tuple(
            sorted((self._locked((name.split(":")[0], version, arch)) for name, version, arch in found), key=_order)
        )

    def resolve_base(self, recipe: Recipe) -> tuple[LockedPackage, ...]:
        """Return the packages of the base: all essential and required ones, and what the recipe names."""
        return self.resolve((*self.minimal(), recipe.base.kernel, *recipe.base.packages))

    def resolve_tools(self) -> tuple[LockedPackage, ...]:
        """Return the packages of the tools root."""
        return self.resolve((*self.minimal(), *PACKAGES))

    def minimal(self) -> tuple[str, str]:
        """Return what to ask apt for to get mmdebstrap's minbase."""
        narrow = f"?narrow(?or(?archive(^{self.suite}$),?codename(^{self.suite}$)),?architecture(amd64),"
        return (f"{narrow}?or(?essential,?priority(required)))", "apt")

    def resolve_layers(self, recipe: Recipe, base: tuple[LockedPackage, ...]) -> dict[str, tuple[LockedPackage, ...]]:
        """Return the packages of each layer that asks for some, each on top of the layers that it stands on."""
        parts: dict[str, tuple[LockedPackage, ...]] = {BASE: base}
        for layer in recipe.layers:
            if layer.packages:
                below: dict[str, LockedPackage] = {}
                for need in recipe.ancestors(layer.role):
                    below.update({package.name: package for package in parts.get(need, ())})
                parts[layer.role] = self.resolve(layer.packages, below.values())
        del parts[BASE]
        return parts

    def check_version(self, name: str, version: str) -> None:
        """Raise `NotFound` unless the archive has this version: apt passes over a pin that nothing matches."""
        versions = sorted({found for package, found, _ in self.paragraphs if package == name})
        if version not in versions:
            raise NotFound(
                f"{self.suite} has no {name}={version}",
                details=f"versions there: {', '.join(versions) or 'none'}",
                resolution="ask for one of these versions",
            )

    def find_version(self, name: str, wanted: str) -> str:
        """Return the newest version that is `wanted` or, without epoch and Debian's revision, says `wanted`. Raises `NotFound`."""
        versions = {found for package, found, _ in self.paragraphs if package == name}
        fits = [one for one in versions if wanted in (one, NativeVersion(one).upstream_version)]
        if not fits:
            self.check_version(name, wanted)
        return max(fits, key=NativeVersion)

    def addresses(self) -> tuple[str, ...]:
        """Return the roots of the archives, below which `LockedPackage.filename` stands, longest list of packages first."""
        said = self._apt("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
        return tuple(dict.fromkeys(line.rstrip("/") for line in said.split() if not line.startswith("file:")))

    def _apt(self, command: str, *args: str, **options: Path) -> str:
        flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
        environment = {"APT_CONFIG": str(self.root / "apt.conf")}
        return process.run(["apt-get", "-qq", *flags, command, *args], env=environment, timeout_s=300).stdout

    def _pretend(self, package: LockedPackage) -> str:
        lines = self._paragraph(package.identity).splitlines()
        kept = [line for line in lines if not line.startswith(("Filename:", "Size:", "MD5sum:", "SHA256:", "Status:"))]
        return "\n".join([kept[0], "Status: install ok installed", *kept[1:], ""])

    def _locked(self, identity: Identity) -> LockedPackage:
        fields = _fields(self._paragraph(identity))
        name, version, architecture = identity
        return LockedPackage(
            name=name,
            version=version,
            architecture=architecture,
            sha256=fields["SHA256"],
            size=int(fields["Size"]),
            filename=fields["Filename"],
        )

    def _paragraph(self, identity: Identity) -> str:
        try:
            return self.paragraphs[identity]
        except KeyError as error:
            raise NotFound(
                f"{' '.join(identity)} is not in the index of {self.suite}", resolution="run `qtrade lock --update`"
            ) from error


def open_archive(
    settings: Settings, suite: str, work: Path, keep: Iterable[LockedPackage] = (), free: Iterable[str] = ()
) -> Archive:
    """Return the archive of `suite`, its index read now (network, root).

    Packages in `keep` hold their versions; those that the index has dropped are taken from the cache. `free` names are not held.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    root = work / "root"
    options = (
        # Firmware is a section of its own; nothing of it is taken but what a recipe names.
        "--components=main,non-free-firmware",
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::GzipIndexes "false"',
        '--aptopt=Acquire::Retries "3"',
    )
    skip = "--skip=cleanup,setup/mount"
    argv = ["mmdebstrap", "--mode=root", "--variant=custom", "--format=directory", skip, *options, suite, str(root)]
    process.run([*process.DIES_WITH_US, *argv], timeout_s=600)
    (root / "apt.conf").write_text(
        f'Dir "{root}";\nAPT::Architecture "amd64";\nAPT::Architectures {{"amd64";}};\nAPT::Install-Recommends "false";\n'
        'Debug::NoLocking "true";\nAcquire::Languages "none";\nAcquire::GzipIndexes "false";\nAPT::Sandbox::User "root";\n'
        'Dir::Etc::trusted "/etc/apt/trusted.gpg";\nDir::Etc::trustedparts "/etc/apt/trusted.gpg.d";\n'
    )
    archive = Archive(root, suite, read_indexes(root))
    held = {package.identity: package for package in keep if package.name not in set(free)}
    gone = [package for identity, package in held.items() if identity not in archive.paragraphs]
    if gone:
        _add_kept(settings, archive, gone, work / "kept")
    archive.pins.update({package.name: package.version for package in held.values()})
    return archive


def _add_kept(settings: Settings, archive: Archive, gone: list[LockedPackage], folder: Path) -> None:
    make_repository(settings, gone, suite=archive.suite, target=folder)
    with (archive.root / "etc/apt/sources.list").open("a") as sink:
        sink.write(source_line(f"file:{folder}", archive.suite) + "\n")
    process.run(["apt-get", "-qq", "update"], env={"APT_CONFIG": str(archive.root / "apt.conf")}, timeout_s=600)
    # The kept repository names other places for its files; what the lock says of them stays.
    filenames = {package.identity: package.filename for package in gone}
    for identity, paragraph in read_indexes(archive.root).items():
        if identity in filenames:
            text = re.sub(r"(?m)^Filename: .*$", f"Filename: {filenames[identity]}", paragraph)
            archive.paragraphs[identity] = text


def read_indexes(root: Path) -> dict[Identity, str]:
    """Return the paragraphs of all Packages files that apt keeps below `root`."""
    found: dict[Identity, str] = {}
    for path in sorted((root / "var/lib/apt/lists").glob("*_Packages")):
        for paragraph in path.read_text().split("\n\n"):
            fields = _identity(paragraph)
            if fields:
                found.setdefault(fields, paragraph)
    return found


def _identity(paragraph: str) -> Identity | None:
    found: Mapping[str, str] = {
        name: value
        for line in paragraph.splitlines()
        if line.startswith(("Package: ", "Version: ", "Architecture: "))
        for name, value in [line.split(": ", 1)]
    }
    return (found["Package"], found["Version"], found["Architecture"]) if len(found) == 3 else None


def _fields(paragraph: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" "))


def _order(package: LockedPackage) -> Identity:
    return package.identity
