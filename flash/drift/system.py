"""Compare what runs: units, sysctls, mounts, time zone."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from flash.drift.expected import Expected, WantedMount
from flash.drift.findings import Finding, Remedy
from flash.drift.observation import Mount, Observation
from qtrade.manifest import DriftKind

_KERNEL_TYPES = {
    "autofs", "bpf", "binfmt_misc", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue",
    "nsfs", "proc", "pstore", "ramfs", "securityfs", "sysfs", "tmpfs", "tracefs",
}  # fmt: skip
_KERNEL_PLACES = ("/proc", "/sys", "/dev", "/run", "/tmp")  # noqa: S108 - where they are mounted
# What the initramfs mounts (bake/initramfs/os/scripts/qtrade): where, and whether it is read-only. The mount of / is the overlay.
_OWN_MOUNTS = {
    "/": False, "/run/qtrade/system": True, "/run/qtrade/state": False, "/run/qtrade/rw": False, "/var": False,
    "/var/lib/dpkg": False, "/etc/machine-id": False, "/etc/hostname": False, "/run/qtrade/esp": False,
}  # fmt: skip
_LAYERS = "/run/qtrade/layers/*"
# The host's own name, bound over the config's link to it: what is mounted, and where.
_HOST_NAME = ("/host/hostname", "/run/qtrade/state/config/*/hostname")


def compare_units(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the units that the image starts with those that run. What waits for a condition, or was drained, is as it should be."""
    del expected
    units = observation.units
    if units is None:
        return
    for unit in units.found:
        if unit.active == "failed":
            yield _unit(unit.name, "the unit has failed", "active", f"{unit.active} ({unit.sub})")
        elif unit.is_due and unit.name not in units.drained:
            yield _unit(unit.name, "the unit was stopped", "active", f"{unit.active} ({unit.sub})")
        elif unit.name in units.declared and unit.load == "masked":
            yield _unit(unit.name, "the unit is masked", "loaded", unit.load)
    known = {unit.name for unit in units.found}
    for name in units.declared:
        # `name@.service` stands for its instances.
        if name not in known and "@." not in name:
            yield _unit(name, "the image starts this unit, and systemd does not know it", "loaded", "unknown")
    for path in units.made:
        yield _unit(path, "a unit, or a setting of one, was made at run time", "none", "there")


def _unit(subject: str, what: str, expected: str, found: str) -> Finding:
    return Finding(DriftKind.UNIT, subject, what, Remedy.REBOOT, expected, found)


def compare_sysctls(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare every sysctl that the image sets."""
    del expected
    sysctls = observation.sysctls
    if sysctls is None:
        return
    for name, wanted in sorted(sysctls.declared.items()):
        found = sysctls.found.get(name)
        if found is not None and found != wanted:
            subject = name.replace("/", ".")
            yield Finding(DriftKind.SYSCTL, subject, "the kernel has another value", Remedy.REBOOT, wanted, found)


def compare_mounts(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare mounts: those of fstab and of the data disks by UUID, those of the initramfs, and none besides."""
    mounts = observation.mounts
    if mounts is None:
        return
    found: dict[str, list[Mount]] = {}
    for mount in mounts.found:
        found.setdefault(mount.where, []).append(mount)
    for wanted in expected.mounts:
        yield from _compare_mount(wanted, found.get(wanted.where, []))
    known = {wanted.where for wanted in expected.mounts}
    for where, there in sorted(found.items()):
        yield from _compare_known(where, there, is_wanted=where in known)
        for mount in there:
            if mount.uuid.lower() in expected.protected and "ro" not in mount.options.split(","):
                yield _mount(where, "a protected disk is mounted for writing", "not mounted", f"UUID={mount.uuid}")
    if mounts.swaps and not expected.has_swap:
        yield _mount("swap", "swap is on that no fstab names", "none", " ".join(mounts.swaps))


def _compare_mount(wanted: WantedMount, there: list[Mount]) -> Iterator[Finding]:
    if not there:
        yield _mount(wanted.where, "the mount is missing", wanted.what, "not mounted")
        return
    top = there[-1]
    uuid = wanted.what.removeprefix("UUID=").lower()
    if wanted.what.startswith("UUID=") and top.uuid.lower() != uuid:
        yield _mount(
            wanted.where, "another filesystem is mounted here", wanted.what, f"UUID={top.uuid or '?'} ({top.what})"
        )
    states = {"ro", "rw"} & set(wanted.options) or {"rw"}
    if wanted.type not in ("none", "overlay") and not states & set(top.options.split(",")) & set(top.super.split(",")):
        found = "rw" if states == {"ro"} else "ro"
        yield _mount(wanted.where, "the mount is not in the mode that it is to be in", "/".join(sorted(states)), found)


def _compare_known(where: str, there: list[Mount], *, is_wanted: bool) -> Iterator[Finding]:
    top = there[-1]
    if fnmatchcase(where, _LAYERS) and top.type == "erofs" and len(there) == 1:
        return
    if len(there) == 1 and top.root == _HOST_NAME[0] and fnmatchcase(where, _HOST_NAME[1]):
        return
    if where in _OWN_MOUNTS or is_wanted:
        if _OWN_MOUNTS.get(where) and "ro" not in top.options.split(","):
            yield _mount(where, "the mount is to be read-only", "ro", "rw")
        if len(there) > 1:
            yield _mount(where, "something was mounted over it", "1 mount", f"{len(there)}: {top.type} {top.what}")
        return
    is_kernels = top.type in _KERNEL_TYPES and any(
        where == place or where.startswith(f"{place}/") for place in _KERNEL_PLACES
    )
    if not is_kernels or where.startswith("/run/qtrade/"):
        yield _mount(
            where, "nothing of image and config mounts this", "not mounted", f"{top.type} {top.what} {top.root}"
        )


def _mount(where: str, what: str, expected: str, found: str) -> Finding:
    return Finding(DriftKind.MOUNT, where, what, Remedy.REBOOT, expected, found)


def compare_time_zone(expected: Expected, observation: Observation) -> Iterator[Finding]:
    """Compare the time zone."""
    del expected
    zone = observation.time_zone
    if zone is not None and zone.declared != zone.found:
        yield Finding(
            DriftKind.TIME_ZONE, "/etc/localtime", "the time zone was changed", Remedy.REBOOT, zone.declared, zone.found
        )  # fmt: skip
