"""Boot scripts as text."""

from pathlib import Path

import pytest

from flash.netboot.ipxe import BootPlan, normalise_mac, render_chain_script, render_ipxe_script
from qtrade.errors import BadInput

pytestmark = pytest.mark.unit

PLAN = BootPlan("52:54:00:AA:bb:01", Path("/k"), Path("/i"), root_id="ab" * 32, arguments="console=ttyS0 panic=10")


def test_installer_script_whole() -> None:
    assert render_ipxe_script(PLAN, "http://10.0.2.2:8000/tok") == (
        "#!ipxe\n"
        "kernel http://10.0.2.2:8000/tok/kernel console=ttyS0 panic=10 qtrade.job=http://10.0.2.2:8000/tok/job "
        f"qtrade.root={'ab' * 32} qtrade.mac=52:54:00:aa:bb:01 initrd=initrd || exit\n"
        "initrd --name initrd http://10.0.2.2:8000/tok/initrd || exit\n"
        "boot || exit\n"
    )


def test_first_script_asks_by_the_nic_that_booted() -> None:
    assert render_chain_script("http://10.0.2.2:8000") == (
        "#!ipxe\n"
        "isset ${netX/mac} || dhcp || exit\n"
        "chain --replace http://10.0.2.2:8000/boot/${netX/mac}.ipxe || exit\n"
    )


@pytest.mark.parametrize("arguments", ["a=${next-server}", "a || shell", "a && b", "caf\u00e9"])
def test_arguments_cannot_become_commands(arguments: str) -> None:
    with pytest.raises(BadInput, match="no place in a boot script"):
        render_ipxe_script(BootPlan(PLAN.mac, PLAN.kernel, PLAN.initrd, PLAN.root_id, arguments), "http://h/t")


def test_line_breaks_in_arguments_are_spaces() -> None:
    script = render_ipxe_script(BootPlan(PLAN.mac, PLAN.kernel, PLAN.initrd, PLAN.root_id, "a\nshell"), "http://h/t")
    assert "kernel http://h/t/kernel a shell qtrade.job" in script


@pytest.mark.parametrize("mac", ["52:54:00:aa:bb:01", "52-54-00-AA-BB-01", "525400aabb01"])
def test_macs_have_one_form(mac: str) -> None:
    assert normalise_mac(mac) == "52:54:00:aa:bb:01"


@pytest.mark.parametrize("mac", ["", "52:54:00:aa:bb", "52:54:00:aa:bb:0g", "../../etc"])
def test_what_is_no_mac_is_refused(mac: str) -> None:
    with pytest.raises(BadInput):
        normalise_mac(mac)
