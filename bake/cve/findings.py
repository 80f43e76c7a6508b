"""Join packages with the tracker's issues, by source package and version of the suite."""

from collections.abc import Iterable
from typing import Any

from debian.debian_support import NativeVersion

from bake.cve.tracker import Issues, Status, Urgencies
from bake.inventory import Package
from qtrade.manifest.base import Model


class Finding(Model):
    """A vulnerability of an image. `package` and `version` are the source package's; `fixed` is empty without a fix.

    `binaries` are the installed packages that were built from it, sorted. `nodsa` is the tracker's word on why there
    will be no advisory.
    """

    cve: str
    package: str
    version: str
    status: Status
    fixed: str
    urgency: Urgencies
    nodsa: str
    binaries: tuple[str, ...]

    @property
    def identity(self) -> tuple[str, str]:
        """What makes it the same finding in another scan: CVE and source package."""
        return self.cve, self.package

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return self.model_dump(mode="json")


def find_issues(packages: Iterable[Package], issues: Issues) -> tuple[Finding, ...]:
    """Return what concerns `packages`, sorted by package and CVE.

    A resolved issue concerns a version older than the fixed one (Debian's order of versions: epochs, `~`); an open or
    undetermined one concerns every version, as does a resolved one that names no version.
    """
    sources: dict[tuple[str, str], list[str]] = {}
    for package in packages:
        sources.setdefault((package.source, package.source_version), []).append(package.name)
    found = []
    for (source, version), binaries in sources.items():
        for issue in issues.get(source, ()):
            is_fixed = issue.status == "resolved" and issue.fixed and not is_older(version, issue.fixed)
            if not is_fixed:
                found.append(
                    Finding(
                        cve=issue.cve,
                        package=source,
                        version=version,
                        status=issue.status,
                        fixed=issue.fixed,
                        urgency=issue.urgency,
                        nodsa=issue.nodsa,
                        binaries=tuple(sorted(set(binaries))),
                    )
                )
    return tuple(sorted(found, key=lambda item: (item.package, item.cve, item.version)))


def is_older(version: str, other: str) -> bool:
    """Return whether `version` comes before `other` in Debian's order."""
    return bool(NativeVersion(version) < NativeVersion(other))
