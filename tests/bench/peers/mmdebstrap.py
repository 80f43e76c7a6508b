"""Plain mmdebstrap: all packages in one go, files copied. What no tool that runs dpkg can undercut without a cache."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from qtrade.toolsroot import open_tools
from tests.bench.cases import Bench, Case, Job
from tests.bench.content import EARLY, lay_files, packages_of, standin_debs
from tests.bench.peers.scripts import INSTALL_STANDINS, bootstrap, fill_archives, first_line, pack, write_script


class Mmdebstrap:
    """Every case but the first is the same run: there is no cache but the .debs."""

    name = "mmdebstrap"
    note = "Packages and files only, no Ansible: the limit for a build without a cache. Keeps nothing but .debs between runs."
    same_as = MappingProxyType(dict.fromkeys((Case.NOTHING, Case.LAST, Case.MIDDLE, Case.LOW), Case.DEBS))
    left_out: Mapping[Case, str] = MappingProxyType({})
    is_emulated = False

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder

    def missing(self) -> str | None:
        """Return why it cannot run here."""
        return None if shutil.which("mmdebstrap") else "mmdebstrap is not installed"

    def version(self) -> str:
        """Return its version."""
        return first_line("mmdebstrap", "--version")

    def prepare(self, case: Case, number: int) -> Job:
        """Remove the last tree; archives are empty for a cold run."""
        folder, recipe = self._folder, self._bench.recipe
        tree, files, archives, image = (folder / name for name in ("tree", "files", "archives", "image.erofs"))
        shutil.rmtree(tree, ignore_errors=True)
        image.unlink(missing_ok=True)
        if case is Case.COLD:
            fill_archives(archives, None)
        elif not archives.is_dir():
            fill_archives(archives, self._bench.debs)
        lay_files(self._bench.project, recipe, files)
        hooks = (
            f'--essential-hook=install -D -m 644 {files / EARLY} "$1"/{EARLY}',
            f"--customize-hook=sync-in {files} /",
            *(f"--customize-hook=copy-in {deb} /var/tmp" for deb in standin_debs(recipe, self._bench.pool)),
            f'--customize-hook=chroot "$1" sh -c "{INSTALL_STANDINS.format(folder="/var/tmp")}"',
        )
        lines = [
            bootstrap(packages_of(recipe), recipe.base.suite, tree, archives, *hooks),
            pack(open_tools(self._bench.settings), tree, image),
        ]
        script = write_script(folder / "bake.sh", lines)
        return Job((str(script),), lambda: (image,), {"SOURCE_DATE_EPOCH": str(recipe.epoch)})
