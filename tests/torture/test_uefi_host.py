"""UEFI firmware: a flash over the network of a host without secrets, and one version there that does not come up."""

from pathlib import Path

import pytest

from qtrade.settings import Settings
from tests.e2e.images import extra_layer, publish_variant
from tests.rigs import LabRig
from tests.torture.faults import arm, expect_fallback

pytestmark = pytest.mark.torture


def test_flashed_host_booted_by_uefi(uefi: LabRig) -> None:
    assert uefi.sh("test -d /sys/firmware/efi && echo yes") == "yes"
    assert uefi.link.status()["upper"] == []


def test_a_host_without_secrets_is_healthy_and_what_needs_one_waits(uefi: LabRig) -> None:
    """The flash ended at COMMITTED, so the specs of all roles hold; here is what they met."""
    assert uefi.sh("systemctl is-system-running") == "running"
    for unit in ("datadog-agent", "otelcol-contrib", "qtrade-client"):
        shown = uefi.sh(f"systemctl show -P ActiveState -P Result -P ConditionResult -P NRestarts {unit}.service")
        assert sorted(shown.split()) == ["0", "inactive", "no", "success"], unit
    report = (uefi.settings.state_dir / "specs" / uefi.name / "report.xml").read_text()
    for spec in (
        "test_collector_listens_where_it_was_baked_to_where_there_is_a_key",
        "test_client_runs_where_it_has_its_token_and_waits_elsewhere",
        "test_stream_is_refused_to_strangers_where_there_is_a_token",
    ):
        assert spec in report


def test_init_that_exits_falls_back(uefi: LabRig, settings: Settings, image_010: str, tmp_path: Path) -> None:
    layer = extra_layer(settings, tmp_path, {"usr/sbin/init": "#!/bin/sh\nexit 1\n"})
    publish_variant(settings, "0.2.0", top=layer)
    begin = uefi.host.console.offset()
    boot_id = arm(uefi, "0.2.0")
    expect_fallback(uefi, "0.2.0", image_010, boot_id)
    assert "Kernel panic" in uefi.host.console.read(begin)
