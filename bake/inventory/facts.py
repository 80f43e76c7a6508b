"""What the files of an image mean: units, sysctls, firewall, users, privileged files."""

import posixpath
import re
import struct
from dataclasses import dataclass

from bake.inventory.document import Node
from bake.inventory.tree import Tree

# The folder of the administrator wins over the vendor's (systemd.unit(5), sysctl.d(5)).
_UNIT_FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system")
_SYSCTL_FOLDERS = ("etc/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d")
_UNIT_TYPES = (".service", ".socket", ".timer", ".mount", ".automount", ".path", ".target", ".swap", ".slice")
_FIREWALL_FILES = re.compile(r"etc/(default/ufw|ufw/([^/]+\.(rules|init)|ufw\.conf|sysctl\.conf))")
_POLICIES = re.compile(r"(ENABLED|IPV6|DEFAULT_\w+_POLICY|MANAGE_BUILTINS)=(.*)")
_SETUID, _SETGID = 0o4000, 0o2000
# linux/capability.h, in the order of the bits.
_CAPABILITY_NAMES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service "
    "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin "
    "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override "
    "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
)


@dataclass(frozen=True)
class Units:
    """Unit files: `files` name -> digest over the unit and its drop-ins; `enabled` are `<target>.wants/<unit>` links.

    `masked` units lead to /dev/null and cannot start.
    """

    files: dict[str, str]
    enabled: frozenset[str]
    masked: frozenset[str]


def read_units(tree: Tree) -> Units:
    """Return the system units. Of a unit in both folders, the administrator's copy counts."""
    files: dict[str, list[str]] = {}
    enabled, masked, seen = set(), set(), set()
    for folder in _UNIT_FOLDERS:
        for path, placed in tree.under(folder):
            inside = path.removeprefix(f"{folder}/")
            if inside in seen or placed.node.kind not in ("file", "link"):
                continue
            seen.add(inside)
            where, name = posixpath.split(inside)
            if where.endswith((".wants", ".requires")):
                enabled.add(inside)
            elif where.endswith(".d"):
                files.setdefault(where.removesuffix(".d"), []).append(f"{inside} {_identity(tree, path)}")
            elif not where and _is_masked(placed.node):
                masked.add(name)
            elif not where and name.endswith(_UNIT_TYPES):
                files.setdefault(name, []).append(f"{inside} {_identity(tree, path)}")
    digests = {name: "\n".join(sorted(parts)) for name, parts in sorted(files.items())}
    return Units(digests, frozenset(enabled), frozenset(masked))


def _is_masked(node: Node) -> bool:
    return node.content == "/dev/null" or (node.kind == "file" and node.size == 0)


def _identity(tree: Tree, path: str) -> str:
    node = tree.nodes[path].node
    return f"-> {node.content}" if node.kind == "link" else node.content


def read_sysctls(tree: Tree) -> dict[str, str]:
    """Return the kernel parameters that systemd-sysctl sets at boot; later files, by name, win (sysctl.d(5))."""
    by_name: dict[str, str] = {}
    for folder in _SYSCTL_FOLDERS:
        for path, _ in tree.under(folder):
            if path.endswith(".conf"):
                by_name.setdefault(posixpath.basename(path), path)
    found: dict[str, str] = {}
    for _, path in sorted(by_name.items()):
        for line in (tree.text(path) or "").splitlines():
            name, is_set, value = line.strip().partition("=")
            if name and is_set and name[0] not in "#;":
                found[name.strip().removeprefix("-").replace("/", ".")] = " ".join(value.split())
    return dict(sorted(found.items()))


def read_firewall(tree: Tree) -> dict[str, tuple[str, ...]]:
    """Return ufw's rules by file, in their order, without comments; of its settings, policies and whether it is on.

    The allow list that a host adds is its config, not the image's (role ufw_solana).
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(filter(_FIREWALL_FILES.fullmatch, tree.nodes)):
        lines = [" ".join(line.split()) for line in (tree.text(path) or "").splitlines()]
        if not path.endswith((".rules", ".init", "sysctl.conf")):
            lines = [line for line in lines if _POLICIES.fullmatch(line)]
        kept = tuple(line for line in lines if line and not line.startswith("#"))
        if kept:
            found[path] = kept
    return found


def read_accounts(tree: Tree, path: str) -> dict[str, str]:
    """Return name -> the rest of the line of etc/passwd or etc/group (`path`)."""
    lines = (line.split(":", 1) for line in (tree.text(path) or "").splitlines() if ":" in line)
    return dict(sorted((name, rest) for name, rest in lines))


def read_privileged(tree: Tree) -> dict[str, str]:
    """Return path -> owner, mode and capabilities of every file that gives its caller more rights."""
    found = {}
    for path, placed in sorted(tree.nodes.items()):
        node = placed.node
        capability = node.xattrs.get("security.capability")
        if node.kind != "file" or not (node.mode & (_SETUID | _SETGID) or capability):
            continue
        parts = [f"{node.uid}:{node.gid}", f"{node.mode:04o}"]
        parts += ["setuid"] if node.mode & _SETUID else []
        parts += ["setgid"] if node.mode & _SETGID else []
        parts += [render_capability(capability)] if capability else []
        found[path] = " ".join(parts)
    return found


def render_capability(value_hex: str) -> str:
    """Return a `security.capability` attribute as getcap(8) writes it, or its hex digits when it is of an unknown form.

    Source: struct vfs_cap_data in linux/capability.h, revisions 2 and 3.
    """
    value = bytes.fromhex(value_hex)
    if len(value) not in (20, 24) or value[3] not in (2, 3):
        return f"capability={value_hex}"
    magic, low, low_inherited, high, high_inherited = struct.unpack_from("<IIIII", value)
    permitted, inherited = low | high << 32, low_inherited | high_inherited << 32
    known = _CAPABILITY_NAMES.split()
    names = [
        f"cap_{known[bit]}" if bit < len(known) else f"cap_{bit}"
        for bit in range(64)
        if (permitted | inherited) >> bit & 1
    ]
    flags = ("e" if magic & 1 else "") + ("i" if inherited else "") + ("p" if permitted else "")
    return f"{','.join(names)}={flags}"
