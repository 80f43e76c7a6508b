"""Which files' contents an inventory keeps, and what is read from a copyright file."""

import re
from fnmatch import fnmatchcase

# Facts come from these (facts.py, ports.py, packages.py). Everything else is known by its digest.
KEPT = (
    "var/lib/dpkg/status",
    "etc/passwd",
    "etc/group",
    "etc/os-release",
    "usr/lib/os-release",
    "etc/sysctl.conf",
    "etc/sysctl.d/*.conf",
    "usr/lib/sysctl.d/*.conf",
    "usr/local/lib/sysctl.d/*.conf",
    "etc/default/ufw",
    "etc/ufw/*.rules",
    "etc/ufw/*.init",
    "etc/ufw/ufw.conf",
    "etc/ufw/sysctl.conf",
    "etc/systemd/system/*",
    "usr/lib/systemd/system/*",
    "etc/ssh/sshd_config",
    "etc/ssh/sshd_config.d/*.conf",
    "etc/chrony/chrony.conf",
    "etc/postgresql/*/postgresql.conf",
    "etc/postgresql/*/conf.d/*.conf",
    "etc/otelcol*/*.yaml",
    "etc/datadog-agent/datadog.yaml",
    "etc/yellowstone/*.json",
    "usr/lib/qtrade/*.sh",
)
_LARGEST_TEXT = 8 << 20
COPYRIGHT = "usr/share/doc/*/copyright"
_MACHINE_READABLE = re.compile(r"\A(?:Format|Format-Specification):\s*\S*(?:copyright-format|dep5)", re.IGNORECASE)
_LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)


def is_kept(path: str, size_bytes: int) -> bool:
    """Return whether the text of the file at `path` belongs into the inventory. A `*` may span folders."""
    return size_bytes <= _LARGEST_TEXT and any(fnmatchcase(path, pattern) for pattern in KEPT)


def is_copyright(path: str) -> bool:
    """Return whether `path` is the copyright file of a package."""
    return fnmatchcase(path, COPYRIGHT) and path.count("/") == 4


def licence_names(text: str) -> tuple[str, ...]:
    """Return the short names of a machine-readable copyright file, sorted; none of any other file.

    Source: Debian's copyright format 1.0. `A and B`, `A or B` and lists with commas are taken apart.
    """
    if not _MACHINE_READABLE.match(text):
        return ()
    names: set[str] = set()
    for found in _LICENCE.findall(text):
        for name in re.split(r"\s+(?:and/or|and|or)\s+|\s*,\s*|\s*\|\s*", found.strip()):
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_~-]*", name):
                names.add(name)
    return tuple(sorted(names))
