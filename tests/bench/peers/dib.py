"""diskimage-builder of the Python index: packages, files and an element of our own, no Ansible."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from qtrade.process import CLEAN_PATH
from qtrade.toolsroot import open_tools
from tests.bench.cases import CHANGED, Bench, Case, Job
from tests.bench.content import EARLY, change_role, lay_files, packages_of, standin_debs
from tests.bench.peers.scripts import INSTALL_STANDINS, fill_archives, pack, write_script

_PROGRAMS = ("sudo", "kpartx", "mmdebstrap", "debootstrap")


class DiskImageBuilder:
    """It can keep the tar of a bootstrapped minimal root; everything behind that is done again."""

    name = "diskimage-builder"
    note = (
        "Packages and files only, no Ansible. Keeps the minimal root (when told to); all packages are installed again each "
        "time. It empties its package cache in every run; the bench puts the .debs back, but the few that only it wants come over the "
        "network each time."
    )
    same_as = MappingProxyType(dict.fromkeys((Case.NOTHING, Case.MIDDLE, Case.LOW), Case.LAST))
    left_out: Mapping[Case, str] = MappingProxyType({})
    is_emulated = False

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder

    def missing(self) -> str | None:
        """Return why it cannot run here."""
        if not (Path(sys.executable).parent / "disk-image-create").exists():
            return "diskimage-builder is not installed"
        absent = [name for name in _PROGRAMS if shutil.which(name) is None]
        return f"{absent[0]} is not installed" if absent else None

    def version(self) -> str:
        """Return its version."""
        try:
            return f"diskimage-builder {version('diskimage-builder')}"
        except PackageNotFoundError:
            return "diskimage-builder ?"

    def prepare(self, case: Case, number: int) -> Job:
        """Remove its caches for a cold run; write the element that copies the files and installs the stand-ins."""
        folder, recipe = self._folder, self._bench.recipe
        cache, image, tree = folder / "cache", folder / "image.erofs", folder / "tree"
        archives = folder / "archives"
        image.unlink(missing_ok=True)
        shutil.rmtree(tree, ignore_errors=True)
        if case is Case.COLD:
            shutil.rmtree(cache, ignore_errors=True)
            fill_archives(archives, None)
        elif not list(archives.glob("*.deb")):
            fill_archives(archives, self._bench.debs)
        if case is Case.DEBS:
            for tar in cache.glob("debootstrap-*"):
                tar.unlink()
        if case in CHANGED:
            change_role(self._bench.project, CHANGED[case], number)
        cache.mkdir(parents=True, exist_ok=True)
        self._write_element(folder / "elements/bench", archives)
        tmp = folder / "tmp"
        tmp.mkdir(parents=True, exist_ok=True)
        create = ["disk-image-create", "-t", "tar", "-o", str(folder / "image"), "--image-cache", str(cache)]
        lines = [
            [*create, "-p", ",".join(packages_of(recipe)), "debian-minimal", "bench"],
            ("mkdir", tree),
            ("tar", "-C", tree, "--numeric-owner", "-xf", folder / "image.tar"),
            pack(open_tools(self._bench.settings), tree, image),
        ]
        hook = write_script(
            folder / "debs",
            ['mkdir -p "$1/var/cache/apt/archives"', f'cp {archives}/*.deb "$1/var/cache/apt/archives/" || :'],
        )
        env = {
            "PATH": f"{Path(sys.executable).parent}:{CLEAN_PATH}",
            "HOME": os.environ.get("HOME", "/root"),
            "TMP_DIR": str(tmp),
            "ELEMENTS_PATH": str(folder / "elements"),
            "DIB_RELEASE": recipe.base.suite,
            "DIB_DEBOOTSTRAP_CACHE": "1",
            "DIB_DEBIAN_USE_DEBOOTSTRAP_CACHE": "1",
            "DIB_MMDEBSTRAP_EXTRA_ARGS": f"--setup-hook={hook} --skip=download/empty --dpkgopt=force-unsafe-io",
        }
        security = _security_mirror()
        if security:
            env["DIB_DEBIAN_SECURITY_MIRROR"] = security
        return Job((str(write_script(folder / "bake.sh", lines)),), lambda: (image,), env)

    def _write_element(self, element: Path, archives: Path) -> None:
        recipe = self._bench.recipe
        files = element / "static"
        lay_files(self._bench.project, recipe, files)
        for deb in standin_debs(recipe, self._bench.pool):
            shutil.copy2(deb, files / deb.name)
        # What must be there before its package goes in by itself; the rest follows the packages.
        early = (files / EARLY).read_text()
        write_script(
            element / "pre-install.d/10-early",
            [f"mkdir -p /{Path(EARLY).parent}", f"cat > /{EARLY} <<'END'\n{early}END"],
        )
        # Its own root.d/75 has emptied the cache by now.
        put_back = f'cp {archives}/*.deb "$TARGET_ROOT/var/cache/apt/archives/" || :'
        write_script(element / "root.d/80-debs", [put_back])
        lines = ['cp -a "$(dirname "$0")/../static/." /', INSTALL_STANDINS.format(folder="")]
        write_script(element / "post-install.d/90-files", lines)


def _security_mirror() -> str:
    """Return the address that the machine's own apt has its security updates from; empty for the tool's default."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=False, timeout=60
    )
    return next((line for line in done.stdout.splitlines() if line.endswith("security/")), "")
