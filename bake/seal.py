"""The seal: a fatal check of what no image may hold, on the finished layers."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch

from qtrade.errors import Refused
from qtrade.manifest import Recipe
from qtrade.store import BlobRecord

# Sources: systemd "Building Images Safely", cloud-init clean, virt-sysprep, and what two mmdebstrap runs differ in.
FORBIDDEN = (
    "etc/ssh/ssh_host_*",
    "etc/ssl/private/*",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "*/PG_VERSION",
    "*/.bash_history",
    "*/.ansible/*",
    "*/.ssh/authorized_keys",
    "*/id.json",
    "*validator-keypair*.json",
    "*vote-account-keypair*.json",
    "root/.config/solana/*",
    "usr/sbin/policy-rc.d",
    "etc/dpkg/dpkg.cfg.d/qtrade-bake",
)


def check_layers(recipe: Recipe, records: Mapping[str, BlobRecord]) -> None:
    """Raise `Refused`, naming layer and path, when a layer holds what it must not or two unrelated layers touch one path."""
    found = [f"{name}: {path}" for name, record in records.items() for path in _forbidden(record.paths)]
    found += list(_overlaps(recipe, records))
    if found:
        raise Refused(
            f"the seal found {len(found)} thing(s) that no image may hold",
            details="\n".join(f"  {line}" for line in sorted(found)),
            resolution="change the role so that it leaves them out; secrets and identities belong to the host, not the image",
        )


def _forbidden(lines: Iterable[str]) -> list[str]:
    files = [line.removeprefix("f ") for line in lines if line.startswith("f ")]
    return [path for path in files if any(fnmatch(path, pattern) for pattern in FORBIDDEN)]


def _overlaps(recipe: Recipe, records: Mapping[str, BlobRecord]) -> Iterable[str]:
    kin = {layer.role: set(recipe.ancestors(layer.role)) for layer in recipe.layers}
    owners: dict[str, list[tuple[str, str]]] = {}
    for name, record in records.items():
        for line in record.paths:
            owners.setdefault(_path_of(line), []).append((name, line))
    for path, lines in owners.items():
        for index, (name, line) in enumerate(lines):
            for other, other_line in lines[index + 1 :]:
                related = name in kin.get(other, set()) or other in kin.get(name, set())
                same_folder = line.startswith("d ") and line == other_line
                if not related and not same_folder:
                    yield f"{name} and {other}: {path} (neither needs the other)"


def _path_of(line: str) -> str:
    return re.sub(r"^(f|d \S+) ", "", line)
