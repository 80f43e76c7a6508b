"""`images diff`: what two images differ in, by meaning."""

from bake.cve.scan import image_findings, new_findings
from bake.cve.snapshot import Snapshot, find_snapshot
from bake.diff.compare import Cves, ImageDiff, diff_images
from bake.diff.render import render_diff
from bake.inventory import ImageInventory
from qtrade.settings import Settings

__all__ = ["Cves", "ImageDiff", "compare_cves", "compare_images", "diff_images", "render_diff"]


def compare_cves(settings: Settings, snapshot: Snapshot, before: ImageInventory, after: ImageInventory) -> Cves:
    """Return what one snapshot has against either image alone. Raises the errors of `image_findings`."""
    old, new = (image_findings(settings, inventory, snapshot) for inventory in (before, after))
    return Cves(snapshot=snapshot.sha256, added=new_findings(new, old), fixed=new_findings(old, new))


def compare_images(settings: Settings, before: ImageInventory, after: ImageInventory) -> ImageDiff:
    """Return what changed; of CVEs by the latest snapshot, of whatever age, and nothing when there is none."""
    snapshot = find_snapshot(settings)
    return diff_images(before, after, compare_cves(settings, snapshot, before, after) if snapshot else None)
