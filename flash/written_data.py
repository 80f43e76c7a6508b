"""Whether an image may run on the data that a host holds: Agave's ledger and snapshots fit one minor up or down.

The CHANGELOG of 2.2 promises it for adjacent versions only. The host refuses too, at the validator's start (role agave, start.py); here
it is refused before anything happens to the host.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from qtrade.errors import Refused
from qtrade.manifest import Host, Image
from qtrade.manifest.load import LOADER
from qtrade.settings import Settings
from qtrade.store import Store

_PROGRAM = "agave"
_ACCEPT = "agave_accept_data_of"
_MINORS = "ansible/roles/agave/vars/main.yml"
_MINOR = re.compile(r"(\d+)\.(\d+)\.")


def refuse_far_data(settings: Settings, host: Host, image: Image, status: Mapping[str, Any]) -> None:
    """Raise `Refused` when the host's ledger was written by an Agave more than one minor away from the image's.

    `status` is the agent's. A host that says nothing of it, or data of an unknown writer, stops nothing.
    """
    written = (status.get("data") or {}).get(_PROGRAM)
    version = next((part.version for part in image.components if part.name == _PROGRAM), None)
    if not written or version is None or host.config.get(_ACCEPT) == written:
        return
    if not is_near(written, version, _known_minors(settings)):
        raise Refused(
            f"{host.name}: its ledger was written by Agave {written}, more than one minor from {version} of {image.name} {image.version}",
            details="ledger and snapshots are promised to fit the next minor only, so the validator would not start on them",
            resolution=f"go by way of a version in between; or empty the disks of ledger, accounts and snapshots on the host; or set "
            f"config.{_ACCEPT}: {written} in the host's manifest",
        )


def is_near(written: str, version: str, minors: tuple[tuple[int, int], ...]) -> bool:
    """Return whether two versions are of the same minor or of adjacent ones; `minors` are the known ones, lowest first."""
    found = [_MINOR.match(one) for one in (written, version)]
    if found[0] is None or found[1] is None:
        return False
    first, second = sorted((int(match[1]), int(match[2])) for match in found if match)
    if first in minors and second in minors:
        return minors.index(second) - minors.index(first) <= 1
    return first[0] == second[0] and second[1] - first[1] <= 1


def find_installed(store: Store, recipe: str, image_id: str) -> Image | None:
    """Return the published image with this id, None where the store does not have it any more."""
    for version in reversed(store.versions(recipe)):
        image = Image.model_validate_json(store.read(recipe, version).image_text)
        if image.id == image_id:
            return image
    return None


def _known_minors(settings: Settings) -> tuple[tuple[int, int], ...]:
    if not settings.find(_MINORS).is_file():
        return ()
    table = yaml.load(settings.find(_MINORS).read_text(), Loader=LOADER)["agave_minors"]  # noqa: S506 - a safe loader
    minors = [tuple(map(int, minor.split("."))) for minor in table]
    return tuple(sorted((major, minor) for major, minor in minors))
