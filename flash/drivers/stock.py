"""Choosing a provider's stock system: the agent only needs Linux with Python 3.9, which every living Debian has."""

import re
from collections.abc import Mapping

from qtrade.errors import HostError


def newest_debian(provider: str, names: Mapping[str, str]) -> str:
    """Return the id of the newest plain Debian in `names` (id to name, as the provider's list of images has them).

    Raises `HostError` when there is none. Names with more to them, such as an application on top, are passed over.
    """
    found = {
        identifier: re.fullmatch(r"debian[ _-]*(\d+)[ _(-]*(64[ _-]*(bit)?)?\)?", name.lower())
        for identifier, name in names.items()
    }
    versions = {identifier: int(match[1]) for identifier, match in found.items() if match}
    if not versions:
        raise HostError(
            f"{provider} offers no Debian for this server",
            details=f"it offers: {', '.join(sorted(names.values())) or 'nothing'}",
            resolution="use another door than provider_reinstall for this host",
        )
    return max(versions, key=lambda identifier: versions[identifier])


def is_same_key(one: str, other: str) -> bool:
    """Compare two SSH public keys without their comments."""
    return one.split()[:2] == other.split()[:2]
