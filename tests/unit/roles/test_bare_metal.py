"""What the files of bare_metal say together."""

from pathlib import Path

import pytest
import yaml

from flash.config import render_bundle
from qtrade.manifest import RoleInputs
from tests.fakes.examples import make_environment, make_host, make_image
from tests.unit.roles.agave.conftest import load_module

pytestmark = pytest.mark.unit

ROLE = Path(__file__).resolve().parents[3] / "ansible/roles/bare_metal"
FILES = ROLE / "files"


def test_the_size_of_a_log_is_looked_at_every_hour() -> None:
    assert "maxsize 256M" in (FILES / "etc/logrotate.conf").read_text().splitlines()
    lines = (FILES / "etc/systemd/system/logrotate.timer.d/10-qtrade.conf").read_text().splitlines()
    times = [line for line in lines if line.startswith("OnCalendar=")]
    # The empty one takes Debian's daily away; a longer random delay would skip hours.
    assert times == ["OnCalendar=", "OnCalendar=hourly"]
    assert "RandomizedDelaySec=5min" in lines


def render(path: str, **config: object) -> str:
    """Return a file of the host's config as `push` renders it."""
    document = yaml.safe_load((ROLE / "config/inputs.yml").read_text())
    for file in document["files"]:
        file["template"] = (ROLE / "config/templates" / f"{file['path']}.j2").read_text()
    given = {"bare_metal_mounts": [], "bare_metal_mac": "52:54:00:00:00:01", "bare_metal_ssh_keys": {}, **config}
    image = make_image(inputs={"bare_metal": RoleInputs.model_validate(document)})
    files = render_bundle(make_host(config=given), make_environment(), image).files
    return next(file.content for file in files if file.path == path)


@pytest.fixture
def fstab() -> str:
    mounts = [
        {"what": "UUID=0b1c", "where": "/mnt/data", "type": "ext4"},
        {"what": "UUID=5ab0", "where": "none", "type": "swap"},
        {"what": "tmpfs", "where": "/mnt/ledger", "type": "tmpfs"},
    ]
    return render("fstab", bare_metal_mounts=mounts)


def test_the_spec_looks_for_mounts_where_there_are_some(fstab) -> None:
    spec = load_module(ROLE / "specs/test_bare_metal.py")
    assert spec.mount_points(fstab) == ["/", "/mnt/data", "/mnt/ledger"]
    assert spec.count_swaps(fstab) == 1
    assert spec.count_swaps(render("fstab")) == 0
