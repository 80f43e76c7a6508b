"""What a person is shown of a machine's disks, and what an acceptance binds."""

import pytest

from flash.agent import disks, survey
from flash.agent.errors import AgentError
from tests.fakes.agent_disks import Machine, poke, write_ext4, write_gpt

pytestmark = pytest.mark.unit


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def os_disk(machine):
    return next(disk for disk in machine.discover() if disk.serial == "OS1")


def refusal(machine, accepted="") -> AgentError:
    with pytest.raises(AgentError) as caught:
        survey.require_accepted(os_disk(machine), machine.discover(), accepted)
    assert caught.value.code == "disk-foreign"
    return caught.value


def test_an_empty_disk_and_one_of_ours_need_no_acceptance(machine) -> None:
    path = machine.add("vda", serial="OS1")
    survey.require_accepted(os_disk(machine), machine.discover(), "")
    write_gpt(path, *disks.LABELS)
    survey.require_accepted(os_disk(machine), machine.discover(), "")


@pytest.mark.parametrize(
    "fill",
    [
        lambda path: write_gpt(path, "root", "swap"),
        lambda path: write_ext4(path, 0, 7),
        lambda path: poke(path, 510, b"\x55\xaa"),
        lambda path: poke(path, (1 << 20) - 1, b"x"),
    ],
    ids=["a table", "a filesystem", "a boot sector", "one byte in the first MiB"],
)
def test_a_disk_with_something_else_is_shown_and_refused(machine, fill) -> None:
    fill(machine.add("vda", serial="OS1"))
    machine.add("vdb", serial="LEDGER")
    error = refusal(machine)
    assert "OS1" in error.message
    assert "LEDGER" in error.message
    digits = survey.digest(survey.survey(machine.discover()))
    assert f"--adopt {digits}" in error.remedy
    survey.require_accepted(os_disk(machine), machine.discover(), digits)
    survey.require_accepted(os_disk(machine), machine.discover(), survey.ANY)


def test_an_acceptance_counts_for_just_what_was_shown(machine) -> None:
    write_gpt(machine.add("vda", serial="OS1"), "root")
    other = machine.add("vdb", serial="LEDGER")
    accepted = survey.digest(survey.survey(machine.discover()))
    write_ext4(other, 0, 9)
    error = refusal(machine, accepted)
    assert "shown differently" in error.message
    assert accepted not in error.remedy


def test_names_that_the_kernel_gives_do_not_count(machine, tmp_path) -> None:
    again = Machine(tmp_path / "again")
    for one, names in ((machine, ("vda", "vdb")), (again, ("vdb", "vda"))):
        write_gpt(one.add(names[0], serial="OS1", pci="0000:00:04.0"), "root")
        one.add(names[1], serial="LEDGER", pci="0000:00:05.0")
    assert survey.digest(survey.survey(machine.discover())) == survey.digest(survey.survey(again.discover()))
