"""What the roles stop before a reboot into another image, and in which order."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROLES = Path(__file__).resolve().parents[3] / "ansible/roles"


def programs() -> dict[str, Path]:
    """Return the drain programs of all roles in the order in which the agent runs them."""
    found = {path.name.removesuffix(".j2"): path for path in ROLES.glob("*/*/usr/lib/qtrade/drain.d/*")}
    return dict(sorted(found.items()))


def test_the_client_settles_before_what_it_needs_goes_and_the_last_word_is_on_disk() -> None:
    assert list(programs()) == ["40-qtrade-client", "50-agave", "60-postgres", "90-sync"]


@pytest.mark.parametrize("name", programs())
def test_drain_is_by_programs(name) -> None:
    path = programs()[name]
    assert path.stat().st_mode & 0o777 == 0o755
    assert path.read_text().startswith("#!/bin/sh\n")
