"""What the role's spec concludes from what it sees on a host, over every minor of the table."""

import pytest

from tests.unit.roles.agave.conftest import ROLE, load_module

pytestmark = pytest.mark.unit

VERSIONS = ("3.1.14", "4.0.3", "4.1.2", "4.2.1", "4.3.2")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("config", [{}, {"xdp": False}, {"xdp": True, "xdp_cpu_cores": "2"}])
def test_the_spec_sees_whether_xdp_is_on(version, config, plans, start, table, command_line) -> None:
    """By the role's table, as the host's config says; by the stand-in's own, as that version understands the flags."""
    made = plans.plan_start(table(), version=version, profile="rpc")
    words = [*made["flags"], *start.xdp_flags(made["xdp"], config, made["flags"])]
    spec = load_module(ROLE / "specs/test_agave.py")
    assert spec.uses_xdp(made["xdp"], words) is config.get("xdp", False)
    options = command_line.parse(words, version)[0]
    prefix = "xdp" if version >= "4.1" else "experimental-retransmit-xdp"
    by_default = version >= "4.2"
    assert spec.uses_xdp(made["xdp"], words) == (
        "no-xdp" not in options if by_default else f"{prefix}-cpu-cores" in options
    )


def test_every_minor_of_the_table_is_looked_at(table) -> None:
    assert {version.rpartition(".")[0] for version in VERSIONS} == set(table()["minors"])
