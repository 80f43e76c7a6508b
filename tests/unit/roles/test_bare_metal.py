"""What the files of bare_metal say together."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

FILES = Path(__file__).resolve().parents[3] / "ansible/roles/bare_metal/files"


def test_the_size_of_a_log_is_looked_at_every_hour() -> None:
    assert "maxsize 256M" in (FILES / "etc/logrotate.conf").read_text().splitlines()
    lines = (FILES / "etc/systemd/system/logrotate.timer.d/10-qtrade.conf").read_text().splitlines()
    times = [line for line in lines if line.startswith("OnCalendar=")]
    # The empty one takes Debian's daily away; a longer random delay would skip hours.
    assert times == ["OnCalendar=", "OnCalendar=hourly"]
    assert "RandomizedDelaySec=5min" in lines
