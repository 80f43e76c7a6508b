"""Packer's QEMU builder with Ansible over SSH: the same roles on a running machine that boots the same base."""

import shutil
import subprocess
from pathlib import Path
from types import MappingProxyType

from qtrade.toolsroot import ToolsRoot, open_tools
from tests.bench.cases import CHANGED, Bench, Case, Job
from tests.bench.content import change_role
from tests.bench.peers.packer_chroot import COMPONENTS, bootstrap_base, component_sources, packer_env, write_site
from tests.bench.peers.scripts import Line, fill_archives, first_line, write_script

TEMPLATE = Path(__file__).with_name("packer_qemu.pkr.hcl")
_CAP_S = 420
# Where roles refuse to change a running host: this peer is one.
_REFUSAL = "ansible/playbooks/tasks/refuse_running_host.yml"
_PLUGIN = "ansible/collections/ansible_collections/qtrade/image/plugins/action/tree.py"
_PLUGIN_REFUSES = "if not self._task.check_mode and self._connection.transport != CHROOT:"
_NETWORK = "[Match]\\nName=en* eth*\\n[Network]\\nDHCP=yes\\n"


class PackerQemu:
    """One case only: whatever changed, it boots the base and runs everything."""

    name = "packer-qemu"
    note = (
        "As packer-chroot, on a machine that runs; without KVM that is an emulated one. A change of any role is a full run. "
        "The roles' refusal to change a running host is taken out for it. "
        f"Given up after {_CAP_S} s."
    )
    same_as = MappingProxyType(dict.fromkeys((Case.NOTHING, Case.MIDDLE, Case.LOW), Case.LAST))
    left_out = MappingProxyType(dict.fromkeys((Case.COLD, Case.DEBS), "packer-chroot's base, and the time below"))
    is_emulated = True

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder

    def missing(self) -> str | None:
        """Return why it cannot run here."""
        return None if shutil.which("packer") else "packer is not installed"

    def version(self) -> str:
        """Return its version."""
        return first_line("packer", "version")

    def prepare(self, case: Case, number: int) -> Job:
        """Make the base's disk if it is not there; write playbook, inventory and script."""
        folder = self._folder
        if case in CHANGED:
            change_role(self._bench.project, CHANGED[case], number)
        self._let_roles_change_it()
        if not (folder / "archives").is_dir():
            fill_archives(folder / "archives", self._bench.debs)
        shutil.rmtree(folder / "out", ignore_errors=True)
        self._write_programs(open_tools(self._bench.settings))
        write_site(self._bench, folder / "site.yml")
        if not (folder / "base.raw").is_file():
            make = write_script(folder / "base.sh", self._make_disk())
            subprocess.run([make], check=True, timeout=900, capture_output=True)
        variables = {
            "playbook": folder / "site.yml",
            "disk": folder / "base.raw",
            "key": folder / "key",
            "out": folder / "out",
            "qemu": folder / "bin/qemu-system-x86_64",
            "kernel": folder / "kernel",
            "initrd": folder / "initrd",
        }
        flags = [flag for name, value in variables.items() for flag in ("-var", f"{name}={value}")]
        lines: list[Line] = [("packer", "build", "-color=false", *flags, TEMPLATE)]
        env = packer_env(self._bench, folder)
        env["PATH"] = f"{folder / 'bin'}:{env['PATH']}"
        script = write_script(folder / "bake.sh", lines)
        return Job((str(script),), lambda: (folder / "out/golden.qcow2",), env, timeout_s=_CAP_S)

    def _let_roles_change_it(self) -> None:
        (self._bench.project / _REFUSAL).write_text("[]\n")
        plugin = self._bench.project / _PLUGIN
        plugin.write_text(plugin.read_text().replace(_PLUGIN_REFUSES, "if False:"))

    def _write_programs(self, tools: ToolsRoot) -> None:
        share = tools.root / "usr/share"
        places = f"-L {share / 'qemu'} -L {share / 'seabios'}"
        for name, extra in (("qemu-system-x86_64", places), ("qemu-img", "")):
            write_script(self._folder / "bin" / name, [f'exec {" ".join(tools.argv(name))} {extra} "$@"'])

    def _make_disk(self) -> list[Line]:
        """Return the commands that make the base and its disk: a key, DHCP, the components and the .debs on it."""
        folder, root = self._folder, self._folder / "root"
        inside = root / "opt/bench"
        copies: list[Line] = [
            ("cp", "-a", source, inside / name) for name, source in component_sources(self._bench).items()
        ]
        tools = open_tools(self._bench.settings)
        return [
            f"rm -rf {root} {folder / 'key'}*",
            bootstrap_base(self._bench, root, folder / "archives"),
            ("ssh-keygen", "-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f", folder / "key"),
            ("install", "-D", "-m", "600", folder / "key.pub", root / "root/.ssh/authorized_keys"),
            f"printf '{_NETWORK}' > {root / 'etc/systemd/network/10-bench.network'}",
            f"printf 'PermitRootLogin yes\\n' > {root / 'etc/ssh/sshd_config.d/bench.conf'}",
            f"ln -sf /usr/lib/systemd/system/systemd-networkd.service {root / 'etc/systemd/system/multi-user.target.wants/'}",
            ("ssh-keygen", "-q", "-A", "-f", root),
            ("mkdir", "-p", inside),
            *copies,
            f"cp {folder / 'archives'}/*.deb {root / 'var/cache/apt/archives/'}",
            # /run is empty after a boot: a line makes the place where the playbook looks for components.
            f"echo 'L {COMPONENTS} - - - - /opt/bench' > {root / 'usr/lib/tmpfiles.d/bench.conf'}",
            f"cp {root}/boot/vmlinuz-* {folder / 'kernel'}; cp {root}/boot/initrd.img-* {folder / 'initrd'}",
            f"rm -f {folder / 'base.raw'}; truncate -s 4G {folder / 'base.raw'}",
            tools.argv("mkfs.ext4", "-q", "-F", "-d", root, folder / "base.raw"),
        ]
