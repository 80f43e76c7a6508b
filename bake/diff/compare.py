"""The semantic difference of two images: a pure function over their inventories."""

from typing import Any

from bake.cve.findings import Finding
from bake.diff.changes import Change, Changes, compare, compare_lines
from bake.inventory import ImageInventory, Placed
from bake.inventory.facts import read_accounts, read_firewall, read_privileged, read_sysctls, read_units
from bake.inventory.ports import declared_ports
from qtrade.manifest.base import Model


class FirewallChange(Model):
    """Rules of one file, in their order; a rule that only moved is in both lists."""

    file: str
    removed: tuple[str, ...]
    added: tuple[str, ...]


class LayerSize(Model):
    """A layer's size in bytes before and after; None where the image does not have it. `changed`: it is another blob."""

    role: str
    before: int | None
    after: int | None
    changed: bool


class FileChanges(Model):
    """The files of one layer that changed."""

    role: str
    changes: Changes


class Units(Model):
    """Units whose files changed, and what is started and masked."""

    files: Changes
    enabled: tuple[str, ...]
    disabled: tuple[str, ...]
    masked: tuple[str, ...]
    unmasked: tuple[str, ...]


class Cves(Model):
    """Findings by one snapshot in both images: what the second has and the first has not, and the reverse."""

    snapshot: str
    added: tuple[Finding, ...]
    fixed: tuple[Finding, ...]


class ImageDiff(Model):
    """What changed from the image `before` to `after`, each named `<recipe> <version>`."""

    schema_version: int = 1
    before: str
    after: str
    before_id: str
    after_id: str
    packages: Changes
    components: Changes
    kernel: Changes
    cmdline: Changes
    layers: tuple[LayerSize, ...]
    units: Units
    sysctls: Changes
    firewall: tuple[FirewallChange, ...]
    ports: Changes
    privileged: Changes
    users: Changes
    groups: Changes
    files: tuple[FileChanges, ...]
    cves: Cves | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return self.model_dump(mode="json")


def diff_images(before: ImageInventory, after: ImageInventory, cves: Cves | None = None) -> ImageDiff:
    """Return what changed from `before` to `after`; `cves` is passed on."""
    old, new = before.image, after.image
    return ImageDiff(
        before=f"{old.name} {old.version}",
        after=f"{new.name} {new.version}",
        before_id=old.id,
        after_id=new.id,
        packages=compare(_packages(before), _packages(after)),
        components=compare(_components(before), _components(after)),
        kernel=compare(_kernel(before), _kernel(after)),
        cmdline=_cmdline(old.cmdline, new.cmdline),
        layers=_layers(before, after),
        units=_units(before, after),
        sysctls=compare(read_sysctls(before.tree), read_sysctls(after.tree)),
        firewall=_firewall(before, after),
        ports=compare(declared_ports(before.tree), declared_ports(after.tree)),
        privileged=compare(read_privileged(before.tree), read_privileged(after.tree)),
        users=compare(read_accounts(before.tree, "etc/passwd"), read_accounts(after.tree, "etc/passwd")),
        groups=compare(read_accounts(before.tree, "etc/group"), read_accounts(after.tree, "etc/group")),
        files=_files(before, after),
        cves=cves,
    )


def _packages(inventory: ImageInventory) -> dict[str, str]:
    return {f"{package.name}:{package.architecture}": package.version for package in inventory.packages}


def _components(inventory: ImageInventory) -> dict[str, str]:
    return {
        component.name: f"{component.version} {component.sha256[:12]}{' stand-in' if component.standin else ''}"
        for component in inventory.image.components
    }


def _kernel(inventory: ImageInventory) -> dict[str, str]:
    image = inventory.image
    return {"release": image.kernel_release, "kernel": image.kernel.digest, "initrd": image.initrd.digest}


def _cmdline(before: str, after: str) -> Changes:
    """Return the arguments that went and came. The kernel takes the last of two with one name, so order counts."""
    gone, came = compare_lines(before.split(), after.split())
    return Changes(
        added=tuple(Change(name=argument, after=argument) for argument in came),
        removed=tuple(Change(name=argument, before=argument) for argument in gone),
    )


def _layers(before: ImageInventory, after: ImageInventory) -> tuple[LayerSize, ...]:
    old = {layer.role: layer for layer in before.image.layers}
    new = {layer.role: layer for layer in after.image.layers}
    roles = [*new, *[role for role in old if role not in new]]
    sizes = []
    for role in roles:
        was, now = old.get(role), new.get(role)
        sizes.append(
            LayerSize(
                role=role,
                before=was.size if was else None,
                after=now.size if now else None,
                changed=was is None or now is None or was.digest != now.digest,
            )
        )
    return tuple(sizes)


def _units(before: ImageInventory, after: ImageInventory) -> Units:
    old, new = read_units(before.tree), read_units(after.tree)
    return Units(
        files=compare(old.files, new.files),
        enabled=tuple(sorted(new.enabled - old.enabled)),
        disabled=tuple(sorted(old.enabled - new.enabled)),
        masked=tuple(sorted(new.masked - old.masked)),
        unmasked=tuple(sorted(old.masked - new.masked)),
    )


def _firewall(before: ImageInventory, after: ImageInventory) -> tuple[FirewallChange, ...]:
    old, new = read_firewall(before.tree), read_firewall(after.tree)
    changes = []
    for path in sorted(old.keys() | new.keys()):
        gone, came = compare_lines(old.get(path, ()), new.get(path, ()))
        if gone or came:
            changes.append(FirewallChange(file=path, removed=gone, added=came))
    return tuple(changes)


def _files(before: ImageInventory, after: ImageInventory) -> tuple[FileChanges, ...]:
    """Return the changes by the layer that made them: the one that has the path now or, if it is as before, had it."""
    old, new = before.tree.nodes, after.tree.nodes
    rebuilt = {layer.role for layer in _layers(before, after) if layer.changed}
    changes = compare({path: _looks(placed) for path, placed in old.items()}, {path: _looks(new[path]) for path in new})
    by_layer: dict[str, dict[str, list[Change]]] = {}
    for kind, items in (("added", changes.added), ("removed", changes.removed), ("changed", changes.changed)):
        for item in items:
            owners = [placed.layer for placed in (new.get(item.name), old.get(item.name)) if placed]
            owner = next((role for role in owners if role in rebuilt), owners[0])
            by_layer.setdefault(owner, {}).setdefault(kind, []).append(item)
    order = [layer.role for layer in (*after.image.layers, *before.image.layers)]
    return tuple(
        FileChanges(role=role, changes=Changes(**{kind: tuple(items) for kind, items in by_layer[role].items()}))
        for role in dict.fromkeys(order)
        if role in by_layer
    )


def _looks(placed: Placed) -> str:
    """Return kind, mode, owner, content and extended attributes in one line."""
    node = placed.node
    parts = [node.kind, f"{node.mode:04o}", f"{node.uid}:{node.gid}"]
    parts += [str(node.size), node.content] if node.kind == "file" else [node.content] if node.content else []
    return " ".join([*parts, *[f"{name}={value}" for name, value in node.xattrs.items()]])
