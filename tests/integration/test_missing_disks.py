"""A unit whose data disk is not mounted does not start: the units' own lines under a real manager. Root; /mnt is the manager's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment

from tests.fakes.user_manager import SYSTEMD, Manager

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd's manager")]

ROLES = Path(__file__).parents[2] / "ansible/roles"
KEPT = ("RequiresMountsFor", "AssertPathIsMountPoint")
# Where the lines stand, and what they protect.
UNITS = {
    "agave-validator.service": (
        "agave",
        "usr/lib/systemd/system/agave-validator.service.j2",
        ["ledger", "accounts", "snapshots"],
    ),
    "qtrade-postgres-init.service": ("postgres", "usr/lib/systemd/system/qtrade-postgres-init.service.j2", ["data"]),
    "postgresql@17-main.service": ("postgres", "etc/systemd/system/postgresql@.service.d/10-qtrade.conf.j2", ["data"]),
}


def read_guards(role: str, template: str) -> list[str]:
    """Return the lines of a role's unit that are about mounts."""
    values = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text())
    text = (ROLES / role / "templates" / template).read_text()
    lines = (
        Environment().from_string("\n".join(line for line in text.splitlines() if line.startswith(KEPT))).render(values)
    )
    return lines.splitlines()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A manager with an empty /mnt, whose folders are there as in the image."""
    made = Manager(tmp_path)
    made.sh("mount -t tmpfs tmpfs /mnt && mkdir /mnt/ledger /mnt/accounts /mnt/snapshots /mnt/data")
    yield made
    made.close()


def write_unit(manager: Manager, name: str, guards: list[str]) -> Path:
    started = manager.folder / "started"
    lines = ["[Unit]", *guards, "[Service]", "Type=oneshot", f"ExecStart=/usr/bin/touch {started}", ""]
    (manager.units / name).write_text("\n".join(lines))
    assert manager.ctl("daemon-reload").returncode == 0
    return started


@pytest.mark.parametrize("name", UNITS)
def test_it_starts_with_all_of_its_disks_and_with_none_missing(name: str, manager: Manager) -> None:
    role, template, mounts = UNITS[name]
    started = write_unit(manager, name, read_guards(role, template))
    for mount in mounts:
        manager.sh(f"mount -t tmpfs tmpfs /mnt/{mount}")
    for missing in mounts:
        manager.sh(f"umount /mnt/{missing}")
        done = manager.ctl("start", name)
        assert (done.returncode != 0, started.exists()) == (True, False), f"{name} started without /mnt/{missing}"
        assert "Assertion failed" in done.stderr
        manager.sh(f"mount -t tmpfs tmpfs /mnt/{missing}")
    assert manager.ctl("start", name).returncode == 0
    assert started.exists()


@pytest.mark.parametrize("name", UNITS)
def test_a_disk_that_does_not_come_keeps_it_down(name: str, manager: Manager) -> None:
    """As fstab's mount units do: the disk is named, and is not there."""
    role, template, mounts = UNITS[name]
    what = "What=/nowhere\nType=ext4\n"
    (manager.units / f"mnt-{mounts[-1]}.mount").write_text(f"[Mount]\n{what}Where=/mnt/{mounts[-1]}\n")
    guards = read_guards(role, template)
    started = write_unit(manager, name, [line for line in guards if line.startswith("Requires")])
    done = manager.ctl("start", name)
    assert done.returncode != 0
    assert "dependency" in done.stderr
    assert not started.exists()


def test_without_the_lines_it_would_write_into_the_root(manager: Manager) -> None:
    started = write_unit(manager, "agave-validator.service", [])
    assert manager.ctl("start", "agave-validator.service").returncode == 0
    assert started.exists()
