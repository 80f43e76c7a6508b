"""What a push of secrets starts: the role's own dependencies under a real manager of systemd. Root."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from tests.fakes.user_manager import SYSTEMD, Manager

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd's manager")]

ROLE = Path(__file__).parents[2] / "ansible/roles/postgres"
SERVER = "postgresql@17-main.service"
MIGRATE, PASSWORDS, SETUP, STANZA = (
    f"qtrade-postgres-{name}.service" for name in ("migrate", "passwords", "backup-setup", "stanza")
)
# What decides on starts; conditions and credentials are of a host.
KEPT = ("Requires", "Requisite", "Wants", "After", "Before", "Type", "RemainAfterExit")
PUSHED = {PASSWORDS: "Requisite=qtrade-postgres-migrate.service", STANZA: f"Requisite={SERVER}"}


def write_unit(manager: Manager, name: str) -> None:
    """Write a unit of the role with its dependencies, and a command that does nothing."""
    values = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    template = (ROLE / f"templates/usr/lib/systemd/system/{name}.j2").read_text()
    lines = Environment(undefined=StrictUndefined, trim_blocks=True).from_string(template).render(values).splitlines()
    kept = [line for line in lines if line.startswith("[") or line.partition("=")[0] in KEPT]
    kept.insert(kept.index("[Service]") + 1, "ExecStart=/bin/true")
    (manager.units / name).write_text("\n".join([*kept, ""]))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A manager whose server runs, as after the boot."""
    made = Manager(tmp_path)
    (made.units / SERVER).write_text("[Service]\nExecStart=/bin/sleep 600\n")
    for name in (MIGRATE, PASSWORDS, SETUP, STANZA):
        write_unit(made, name)
    assert made.ctl("daemon-reload").returncode == 0
    assert made.ctl("start", MIGRATE, PASSWORDS, SETUP).returncode == 0
    assert made.show(SERVER)["ActiveState"] == "active"
    yield made
    made.close()


@pytest.mark.parametrize("unit", [PASSWORDS, SETUP])
def test_a_push_restarts_its_unit_while_the_server_runs(unit: str, manager: Manager) -> None:
    assert manager.ctl("restart", unit).returncode == 0
    assert manager.show(SERVER)["ActiveState"] == "active"


@pytest.mark.parametrize(("unit", "is_taken"), [(PASSWORDS, False), (SETUP, True), (STANZA, False)])
def test_a_push_starts_no_server_that_somebody_stopped(unit: str, *, is_taken: bool, manager: Manager) -> None:
    assert manager.ctl("stop", SERVER).returncode == 0
    assert (manager.ctl("restart", unit).returncode == 0) == is_taken
    assert manager.ctl("list-jobs", "--no-legend").stdout == ""
    assert manager.show(SERVER)["ActiveState"] == "inactive"


@pytest.mark.parametrize("unit", [PASSWORDS, STANZA])
def test_with_requires_it_would(unit: str, manager: Manager) -> None:
    path = manager.units / unit
    assert PUSHED[unit] in path.read_text().splitlines()
    path.write_text(path.read_text().replace("Requisite=", "Requires="))
    assert manager.ctl("daemon-reload").returncode == 0
    assert manager.ctl("stop", SERVER).returncode == 0
    assert manager.ctl("restart", unit).returncode == 0
    assert manager.show(SERVER)["ActiveState"] == "active"
