"""The difference of two images as text for people."""

from collections.abc import Iterable

from bake.cve.findings import Finding
from bake.diff.changes import Changes
from bake.diff.compare import FileChanges, FirewallChange, ImageDiff, LayerSize, Units

_SHOWN = 10


def render_diff(diff: ImageDiff, shown: int = _SHOWN) -> str:
    """Return the text: a heading per kind of change, what came (+), went (-) and changed (~); up to `shown` files a layer."""
    if diff.before_id == diff.after_id:
        return f"{diff.before} and {diff.after} are the same image: {diff.after_id}"
    sections = [
        ("packages", _changes(diff.packages)),
        ("components", _changes(diff.components)),
        ("kernel", _changes(diff.kernel, width=12)),
        ("kernel command line", _names(diff.cmdline)),
        ("units", _units(diff.units)),
        ("sysctls", _changes(diff.sysctls)),
        ("firewall", _firewall(diff.firewall)),
        ("declared ports", _changes(diff.ports)),
        ("setuid, setgid, capabilities", _changes(diff.privileged)),
        ("users", _changes(diff.users)),
        ("groups", _changes(diff.groups)),
        ("CVEs", _cves(diff)),
        ("files", [line for layer in diff.files for line in _files(layer, shown)]),
        ("size by layer", _sizes(diff.layers)),
    ]
    lines = [f"{diff.before} -> {diff.after}", f"{diff.before_id} -> {diff.after_id}"]
    for title, body in sections:
        if body:
            lines += ["", title, *[f"  {line}" for line in body]]
    return "\n".join(lines)


def _changes(changes: Changes, width: int | None = None) -> list[str]:
    lines = [f"+ {item.name} {item.after[:width]}" for item in changes.added]
    lines += [f"- {item.name} {item.before[:width]}" for item in changes.removed]
    return lines + [f"~ {item.name} {item.before[:width]} -> {item.after[:width]}" for item in changes.changed]


def _names(changes: Changes) -> list[str]:
    return _marked("+", [item.name for item in changes.added]) + _marked("-", [item.name for item in changes.removed])


def _marked(mark: str, texts: Iterable[str]) -> list[str]:
    return [f"{mark} {text}" for text in texts]


def _units(units: Units) -> list[str]:
    lines = _names(units.files) + _marked("~", [item.name for item in units.files.changed])
    for word, names in (
        ("enabled", units.enabled),
        ("disabled", units.disabled),
        ("masked", units.masked),
        ("unmasked", units.unmasked),
    ):
        lines += [f"{word}: {name}" for name in names]
    return lines


def _firewall(changes: tuple[FirewallChange, ...]) -> list[str]:
    return [
        f"{mark} {change.file}: {rule}"
        for change in changes
        for mark, rules in (("-", change.removed), ("+", change.added))
        for rule in rules
    ]


def _cves(diff: ImageDiff) -> list[str]:
    if diff.cves is None:
        return ["not compared: there is no snapshot (qtrade images cve --update)"]
    return _marked("+", map(_cve, diff.cves.added)) + _marked("-", map(_cve, diff.cves.fixed))


def _cve(finding: Finding) -> str:
    fixed = f", fixed in {finding.fixed}" if finding.fixed else ""
    return f"{finding.cve} {finding.package} {finding.version} ({finding.urgency}, {finding.status}{fixed})"


def _files(layer: FileChanges, shown: int) -> list[str]:
    changes = layer.changes
    lines = [
        f"{layer.role}: {len(changes.added)} added, {len(changes.removed)} removed, {len(changes.changed)} changed"
    ]
    marked = [
        f"  {mark} {item.name}"
        for mark, items in (("+", changes.added), ("-", changes.removed), ("~", changes.changed))
        for item in items
    ]
    rest = len(marked) - shown
    return [*lines, *marked[:shown], *([f"  and {rest} more; --json has them all"] if rest > 0 else [])]


def _sizes(layers: tuple[LayerSize, ...]) -> list[str]:
    width = max(len(layer.role) for layer in layers)
    lines = []
    for layer in layers:
        change = (layer.after or 0) - (layer.before or 0)
        word = f"{change:+,} bytes" if layer.changed else "same"
        lines.append(f"{layer.role:{width}} {_mib(layer.before):>12} -> {_mib(layer.after):>12}  {word}")
    total = sum((layer.after or 0) - (layer.before or 0) for layer in layers)
    return [*lines, f"{'all':{width}} {total:+,} bytes"]


def _mib(size_bytes: int | None) -> str:
    return "none" if size_bytes is None else f"{size_bytes / 2**20:.2f} MiB"
