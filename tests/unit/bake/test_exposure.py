"""What systemd-analyze says on units, read and judged."""

from pathlib import Path

import pytest

from bake.exposure import (
    StackedLayer,
    UnitExposure,
    UnitPolicy,
    UnitRule,
    list_units,
    parse_analysis,
    render_units,
    require_within,
)
from qtrade.errors import Refused
from qtrade.manifest import load_manifest

pytestmark = pytest.mark.unit

# As systemd 257 prints it with COLUMNS=400, some lines of two units.
ANALYSIS = """\
  NAME                                   DESCRIPTION                                              EXPOSURE
✗ RootDirectory=/RootImage=              Service runs within the host's root directory                 0.1
  SupplementaryGroups=                   Service runs as root, option does not matter
✓ UMask=                                 Files created by service are accessible only by service's own user by default
✗ PrivateNetwork=                        Service has access to the host's network                      0.5
✗ CapabilityBoundingSet=~CAP_SYS_ADMIN   Service has administrator privileges                          0.3
✗ ProtectClock=                          Service may write to the hardware clock or system clock       0.2

→ Overall exposure level for app.service: 5.6 MEDIUM 😐
  NAME                                   DESCRIPTION                                              EXPOSURE
✗ UMask=                                 Files created by service are world-readable by default        0.1

→ Overall exposure level for job@test_instance.service: 9.4 UNSAFE 😨
"""


def test_exposure_and_dearest_settings_are_read() -> None:
    app, job = parse_analysis(ANALYSIS)
    assert (app.unit, app.exposure) == ("app.service", 5.6)
    assert app.costs == (
        ("PrivateNetwork=", 0.5),
        ("CapabilityBoundingSet=~CAP_SYS_ADMIN", 0.3),
        ("ProtectClock=", 0.2),
    )
    assert (job.unit, job.exposure, job.costs) == ("job@.service", 9.4, (("UMask=", 0.1),))


def test_services_and_drop_ins_above_the_base_are_listed_and_nothing_else() -> None:
    layers = [
        StackedLayer("base", Path("0"), ("f usr/lib/systemd/system/dbus.service",)),
        StackedLayer(
            "one",
            Path("1"),
            (
                "d 0755:0:0 etc/systemd/system/app.service.d",
                "f etc/systemd/system/multi-user.target.wants/app.service",
                "f usr/lib/systemd/system/app.service",
                "f usr/lib/systemd/system/app.timer",
                "f usr/share/doc/systemd/system/other.service",
            ),
        ),
        StackedLayer(
            "two",
            Path("2"),
            ("f etc/systemd/system/app.service.d/9.conf", "f etc/systemd/system/db@1.service.d/1.conf"),
        ),
    ]
    assert list_units(layers) == {"app.service": "two", "db@1.service": "two"}


RULES = UnitPolicy(
    schema_version=1,
    units=(
        UnitRule(unit="app.service", threshold=5.6, reason="it is what it is"),
        UnitRule(unit="*.service", threshold=2.0, reason="all others are closed"),
    ),
)


def test_the_first_rule_that_matches_counts() -> None:
    found = [RULES.rule_for(name) for name in ("app.service", "job@1.service", "app.timer")]
    assert [rule and rule.threshold for rule in found] == [5.6, 2.0, None]


@pytest.mark.parametrize(("exposure", "is_within"), [(5.5, True), (5.6, True), (5.7, False)])
def test_a_unit_may_be_as_exposed_as_its_threshold(exposure, is_within) -> None:
    assert UnitExposure("one", "app.service", exposure, rule=RULES.units[0]).is_within is is_within


def test_what_is_above_or_has_no_line_is_refused_by_name() -> None:
    units = (
        UnitExposure("one", "app.service", 5.6, rule=RULES.units[0]),
        UnitExposure("one", "job.service", 2.1, rule=RULES.units[1]),
        UnitExposure("two", "ghost.service", 0.1),
    )
    require_within(units[:1])
    with pytest.raises(Refused, match=r"2 unit\(s\)") as caught:
        require_within(units)
    assert caught.value.details.splitlines() == [
        "  one: job.service: 2.1, at most 2.0",
        "  two: ghost.service: 0.1, and no line",
    ]


def test_the_table_shows_the_most_exposed_first() -> None:
    units = (
        UnitExposure("one", "app.service", 1.4, (("UMask=", 0.1),), RULES.units[0]),
        UnitExposure("two", "ghost.service", 9.0),
    )
    assert render_units(units).splitlines() == [
        "UNIT           ROLE  EXPOSURE  AT MOST  DEAREST SETTINGS",
        "ghost.service  two   9.0 !     ?",
        "app.service    one   1.4       5.6      UMask= 0.1",
    ]


def test_the_committed_policy_is_valid_and_names_each_unit_once() -> None:
    path = Path(__file__).resolve().parents[3] / "manifests/units.yaml"
    names = [rule.unit for rule in load_manifest(UnitPolicy, path).units]
    assert len(set(names)) == len(names)
