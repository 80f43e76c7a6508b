"""Plain Packer + Ansible in a chroot: the same roles on the same base, in one build, with no layers and no cache but the base."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from qtrade.manifest.component import AptComponent
from qtrade.process import CLEAN_PATH
from qtrade.toolsroot import open_tools
from tests.bench.cases import CHANGED, Bench, Case, Job
from tests.bench.content import change_role, standin_debs
from tests.bench.peers.scripts import Line, bootstrap, fill_archives, first_line, pack, write_script

TEMPLATE = Path(__file__).with_name("packer_chroot.pkr.hcl")
COMPONENTS = "/run/qtrade/components"
# As in a bake of qtrade: no service starts, dpkg does not flush.
_QUIET = (
    'printf "#!/bin/sh\\nexit 101\\n" > "$root/usr/sbin/policy-rc.d"; chmod 755 "$root/usr/sbin/policy-rc.d"',
    'echo force-unsafe-io > "$root/etc/dpkg/dpkg.cfg.d/bench"',
)
_MOUNTS = (
    'mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; mount -t tmpfs tmpfs "$root/run"; mount -t tmpfs tmpfs "$root/tmp"',
    'install -D /etc/resolv.conf "$root/run/systemd/resolve/stub-resolv.conf"',
)
_AFTER = (
    'rm "$root/usr/sbin/policy-rc.d" "$root/etc/dpkg/dpkg.cfg.d/bench"; umount -R "$root"/{proc,dev,run,tmp,var/cache/apt/archives}',
    'rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*',  # as `apt-get clean`; no index in the image
)


class PackerChroot:
    """From the base each time; a base made before is unpacked from its tar, as those who build so do."""

    name = "packer-chroot"
    note = "All playbooks in one run on the whole root. A change of any role is a full run; only the base is kept."
    same_as = MappingProxyType(dict.fromkeys((Case.NOTHING, Case.MIDDLE, Case.LOW), Case.LAST))
    left_out: Mapping[Case, str] = MappingProxyType({})
    is_emulated = False

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder

    def missing(self) -> str | None:
        """Return why it cannot run here."""
        return None if shutil.which("packer") else "packer is not installed"

    def version(self) -> str:
        """Return its version."""
        return first_line("packer", "version")

    def prepare(self, case: Case, number: int) -> Job:
        """Remove the last root; write inventory, playbook and script."""
        folder, image = self._folder, self._folder / "image.erofs"
        shutil.rmtree(folder / "root", ignore_errors=True)
        image.unlink(missing_ok=True)
        if case is Case.COLD:
            fill_archives(folder / "archives", None)
        elif not (folder / "archives").is_dir():
            fill_archives(folder / "archives", self._bench.debs)
        if case in CHANGED:
            change_role(self._bench.project, CHANGED[case], number)
        write_site(self._bench, folder / "site.yml")
        root = folder / "root"
        host = {"ansible_host": str(root), "ansible_connection": "community.general.chroot"}
        (folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"golden": host}}}))
        variables = {"playbook": folder / "site.yml", "inventory": folder / "inventory.yml"}
        flags = [flag for name, value in variables.items() for flag in ("-var", f"{name}={value}")]
        lines: list[Line] = [
            f"root={root}",
            *(self._make_base() if case in (Case.COLD, Case.DEBS) else self._unpack_base()),
            *_QUIET,
            *_MOUNTS,
            *self._bind_content(),
            ("packer", "build", "-color=false", *flags, TEMPLATE),
            *_AFTER,
            pack(open_tools(self._bench.settings), root, image),
        ]
        script = write_script(folder / "bake.sh", lines)
        return Job((str(script),), lambda: (image,), packer_env(self._bench, folder))

    def _make_base(self) -> list[Line]:
        root = self._folder / "root"
        return [
            bootstrap_base(self._bench, root, self._folder / "archives"),
            ("tar", "-C", root, "--xattrs", "--numeric-owner", "-cf", self._folder / "base.tar", "."),
        ]

    def _unpack_base(self) -> list[Line]:
        return ['mkdir "$root"', f'tar -C "$root" --xattrs --numeric-owner -xf {self._folder / "base.tar"}']

    def _bind_content(self) -> list[Line]:
        root = self._folder / "root"
        lines: list[Line] = [("mount", "--bind", self._folder / "archives", root / "var/cache/apt/archives")]
        inside = root / COMPONENTS.lstrip("/")
        lines.append(("mkdir", "-p", inside))
        for name, source in component_sources(self._bench).items():
            lines.append(("cp", "-a", source, inside / name))
        return lines


def bootstrap_base(bench: Bench, root: Path, archives: Path) -> list[str]:
    """Return the command that makes the recipe's base as qtrade does: with the project's user ids, the package index kept."""
    code = Path(__file__).resolve().parents[3]
    table = bench.project / "manifests/ids.yaml"
    ids = f'--essential-hook=PYTHONPATH={code} {sys.executable} -P -B -m bake.ids "$1" {table}'
    base = bench.recipe.base
    return bootstrap((base.kernel, *base.packages), base.suite, root, archives, ids, "--skip=cleanup/apt/lists")


def component_sources(bench: Bench) -> dict[str, Path]:
    """Return the files and folders of the recipe's components, by the name that they have in the root."""
    debs = iter(standin_debs(bench.recipe, bench.pool))
    sources: dict[str, Path] = {}
    for name, part in bench.recipe.components.items():
        source = next(debs) if isinstance(part, AptComponent) else bench.project / getattr(part, "path", "")
        sources[name if source.is_dir() else f"{name}{source.suffix}"] = source
    return sources


def write_site(bench: Bench, path: Path) -> None:
    """Write one playbook of all layers' playbooks, with each layer's variables."""
    inside = {Path(name).stem: f"{COMPONENTS}/{name}" for name in component_sources(bench)}
    plays = [
        {
            "import_playbook": str(bench.project / "ansible/playbooks" / f"{layer.role}.yml"),
            "vars": {
                **layer.vars,
                **layer.toggles,
                "qtrade_packages": list(layer.packages),
                "qtrade_components": {name: inside[name] for name in layer.components},
                "qtrade_epoch": bench.recipe.epoch,
            },
        }
        for layer in bench.recipe.layers
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plays))


def packer_env(bench: Bench, folder: Path) -> dict[str, str]:
    """Return the environment for Packer and Ansible: no phone home, this interpreter's Ansible, the project's configuration."""
    scratch = folder / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    return {
        "CHECKPOINT_DISABLE": "1",
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{CLEAN_PATH}",
        "PACKER_CACHE_DIR": str(folder / "packer-cache"),
        "ANSIBLE_CONFIG": str(bench.project / "ansible/ansible.cfg"),
        "DEBIAN_FRONTEND": "noninteractive",
        "SOURCE_DATE_EPOCH": str(bench.recipe.epoch),
        "TMPDIR": str(scratch),  # Packer leaves files there; the template gives Ansible its own
    }
