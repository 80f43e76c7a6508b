"""The ignore list of an environment: drift that somebody decided to live with. An entry that has expired ignores nothing, and is told."""

from collections.abc import Iterable
from datetime import date
from fnmatch import fnmatchcase

from flash.drift.findings import Finding, Ignored
from qtrade.manifest import DriftIgnore, DriftIgnores, load_manifest
from qtrade.settings import Settings


def load_ignores(settings: Settings, environment: str) -> tuple[DriftIgnore, ...]:
    """Return the entries of manifests/drift/<environment>.yaml; none where there is no such file. Raises `BadInput`."""
    path = settings.project / "manifests/drift" / f"{environment}.yaml"
    return load_manifest(DriftIgnores, path).ignores if path.is_file() else ()


def split_ignored(
    host: str, findings: Iterable[Finding], ignores: Iterable[DriftIgnore], today: date
) -> tuple[tuple[Finding, ...], tuple[Ignored, ...]]:
    """Return the findings that count, and those that an entry names which has not expired."""
    valid = [one for one in ignores if one.expires >= today and fnmatchcase(host, one.host)]
    counted: list[Finding] = []
    ignored: list[Ignored] = []
    for finding in findings:
        entry = next(
            (one for one in valid if one.kind is finding.kind and fnmatchcase(finding.subject, one.subject)), None
        )
        if entry is None:
            counted.append(finding)
        else:
            ignored.append(Ignored(finding, entry.reason, entry.expires.isoformat(), entry.by))
    return tuple(counted), tuple(ignored)


def expired(ignores: Iterable[DriftIgnore], today: date) -> tuple[str, ...]:
    """Return a line for each entry that has expired."""
    return tuple(
        f"ignore of {one.kind} {one.subject} on {one.host} expired on {one.expires}: {one.reason} ({one.by})"
        for one in ignores
        if one.expires < today
    )
