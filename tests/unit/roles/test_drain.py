"""What the roles stop before a reboot into another image, and in which order."""

import os
import subprocess
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


class Units:
    """drain-unit with its marks in a folder of the test, and a systemctl to which a unit's state is a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = (ROLES / "bare_metal/files/usr/lib/qtrade/bare_metal/drain-unit").read_text()
        assert "/run/qtrade/drained" in text
        self.write("drain-unit", text.replace("/run/qtrade/drained", f"{folder}/drained"))
        self.write(
            "systemctl",
            f"""#!/bin/sh
cd {folder}
case $1 in
show) cat state ;;
stop) echo inactive >state ;;
reset-failed) rm -f counted ;;
start) [ ! -e refuses ] && [ ! -e counted ] && echo active >state ;;
esac
""",
        )

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def run(self, *words: str) -> int:
        environment = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"}
        return subprocess.run(
            [self.folder / "drain-unit", "x.service", *words], env=environment, check=False
        ).returncode

    @property
    def state(self) -> str:
        return (self.folder / "state").read_text().strip()

    @state.setter
    def state(self, value: str) -> None:
        (self.folder / "state").write_text(f"{value}\n")


@pytest.fixture
def units(tmp_path) -> Units:
    return Units(tmp_path)


@pytest.mark.parametrize("state", ["active", "activating"])
def test_what_was_drained_starts_again_once(units, state) -> None:
    units.state = state
    # As after a controller that died: the second drain finds it stopped, and that is no reason to leave it so.
    assert (units.run(), units.run(), units.state) == (0, 0, "inactive")
    assert (units.run("undrain"), units.state) == (0, "active")
    units.state = "inactive"
    assert (units.run("undrain"), units.state) == (0, "inactive")


def test_starts_of_before_do_not_count(units) -> None:
    units.state = "active"
    units.run()
    (units.folder / "counted").touch()
    assert (units.run("undrain"), units.state) == (0, "active")


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_what_was_down_stays_down(units, state) -> None:
    units.state = state
    assert (units.run(), units.run("undrain")) == (0, 0)
    assert units.state == "inactive"


def test_a_start_that_is_refused_can_be_tried_again(units) -> None:
    units.state = "active"
    units.run()
    (units.folder / "refuses").touch()
    assert (units.run("undrain"), units.state) == (1, "inactive")
    (units.folder / "refuses").unlink()
    assert (units.run("undrain"), units.state) == (0, "active")
