"""Waivers of a recipe: vulnerabilities that somebody decided to live with, for a reason and for a time."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from qtrade.manifest.base import Model

CveName = Annotated[str, Field(pattern=r"^(CVE-\d{4}-\d{4,}|TEMP-[0-9A-F-]+)$")]
# Debian Policy 5.6.1.
SourceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
Urgency = Literal["not yet assigned", "low", "medium", "high"]


class Waiver(Model):
    """One decision. `package` is the source package; the last day on which it counts is `expires` (UTC)."""

    cve: CveName
    package: SourceName
    reason: Annotated[str, Field(min_length=10, max_length=500)]
    expires: date
    by: Annotated[str, Field(min_length=1, max_length=100)]


class Gate(Model):
    """When a vulnerability stops a bake: from `urgency` on, or when the suite has a fix (and it is not unimportant).

    A snapshot of the tracker that is older than `snapshot_days` is no answer.
    """

    urgency: Urgency = "high"
    fix_available: bool = True
    snapshot_days: int = Field(default=7, ge=1, le=90)


class Waivers(Model):
    """manifests/waivers/<recipe>.yaml. A waiver counts only when `<recipe>.waivers.json` has its signature."""

    schema_version: Literal[1]
    gate: Gate = Gate()
    waivers: tuple[Waiver, ...] = ()
