"""mkosi as Debian 12 has it (14): packages, files and a script, no Ansible; with its own incremental cache."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from qtrade.toolsroot import open_tools
from tests.bench.cases import CHANGED, Bench, Case, Job
from tests.bench.content import EARLY, change_role, lay_files, packages_of, standin_debs
from tests.bench.peers.scripts import INSTALL_STANDINS, fill_archives, first_line, pack, write_script


class Mkosi:
    """Its cache ends behind the packages: files and scripts are done again each time."""

    name = "mkosi"
    note = (
        "Packages and files only, no Ansible. Keeps the root with its packages (`--incremental`); files and scripts are always "
        "done again. Version 14 uses that cache only with a build script; the bench tricks it into using it without. "
        "Makes no initial RAM filesystem here: it keeps the kernel's package from doing so."
    )
    same_as = MappingProxyType(dict.fromkeys((Case.NOTHING, Case.MIDDLE, Case.LOW), Case.LAST))
    left_out: Mapping[Case, str] = MappingProxyType({})
    is_emulated = False

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder

    def missing(self) -> str | None:
        """Return why it cannot run here."""
        return None if shutil.which("mkosi") else "mkosi is not installed (Debian 12 has version 14)"

    def version(self) -> str:
        """Return its version."""
        return first_line("mkosi", "--version")

    def prepare(self, case: Case, number: int) -> Job:
        """Remove its caches for a cold run; write the trees and the script that it takes."""
        folder, recipe = self._folder, self._bench.recipe
        out, archives, image = (folder / name for name in ("out", "archives", "image.erofs"))
        image.unlink(missing_ok=True)
        if case in (Case.COLD, Case.DEBS):
            shutil.rmtree(out, ignore_errors=True)
        else:
            # Without a build script version 14 misses the root of that script's stage, and makes its cache again each time.
            (out / f"debian~{recipe.base.suite}" / "image.cache-pre-dev").mkdir(exist_ok=True)
        if case is Case.COLD:
            fill_archives(archives, None)
        elif not archives.is_dir():
            fill_archives(archives, self._bench.debs)
        if case in CHANGED:
            change_role(self._bench.project, CHANGED[case], number)
        for name in ("out", "workspace", "empty"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        files, early = folder / "files", folder / "early"
        lay_files(self._bench.project, recipe, files)
        for deb in standin_debs(recipe, self._bench.pool):
            shutil.copy2(deb, files / deb.name)
        (early / EARLY).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files / EARLY, early / EARLY)
        script = write_script(folder / "postinst", [INSTALL_STANDINS.format(folder="")])
        options = {
            "distribution": "debian",
            "release": recipe.base.suite,
            "format": "directory",
            "output-dir": out,
            "output": "image",
            "workspace-dir": folder / "workspace",
            "cache": archives,
            "skeleton-tree": early,
            "extra-tree": files,
            "postinst-script": script,
            "package": ",".join(packages_of(recipe)),
        }
        argv = [
            "mkosi",
            "--force",
            "--incremental",
            "--nspawn-keep-unit",
            *(f"--{name}={value}" for name, value in options.items()),
            "build",
        ]
        lines = [
            # systemd-nspawn, which it runs scripts in, cleans up on a temporary file system only.
            '[ "$(stat -f -c %T /run)" = tmpfs ] || mount -t tmpfs tmpfs /run/systemd',
            f"cd {folder / 'empty'}",  # it reads settings from the folder that it is started in
            argv,
            pack(open_tools(self._bench.settings), out / f"debian~{recipe.base.suite}" / "image", image),
        ]
        return Job((str(write_script(folder / "bake.sh", lines)),), lambda: (image,))
