"""The whole plan of a flash, for both doors."""

from dataclasses import asdict

import pytest

from flash.plan import FlashPlan, PlanStep, expected_s, plan_flash, render_plan
from flash.states import State
from qtrade.manifest.driver import Door
from tests.fakes.examples import make_host, make_image

pytestmark = pytest.mark.unit

OLD, NEW, INSTALLER = "the old version", "the new version", "the installer again, at the next flash"
ONCE = "the new version once, then the old version"


def test_the_plan_of_a_flash_in_place() -> None:
    image = make_image()
    assert plan_flash(make_host(), image, Door.IN_PLACE) == FlashPlan(
        host="rpc-1",
        environment="development",
        recipe="demo",
        version="0.1.0",
        image=image.id,
        door=Door.IN_PLACE,
        touched="serial OS-1, size_bytes 4294967296",
        untouched=("serial LEDGER-1", "wwid eui.01, mount /srv/ledger"),
        config="",
        given_up=(),
        needs=(),
        steps=(
            PlanStep(State.PLANNED, "freeze the plan", 60, OLD),
            PlanStep(State.LEASED, "hold the host, so that nobody else flashes it", 30, OLD),
            PlanStep(
                State.PREFLIGHT,
                "verify signatures and every blob; check that the host can be reached",
                180,
                OLD,
            ),
            PlanStep(State.STAGING, "start the agent on the running host", 1800, OLD),
            PlanStep(State.WRITING, "add the layers that are missing", 3600, OLD),
            PlanStep(State.VERIFIED, "read every byte back; compare the protected disks", 600, OLD),
            PlanStep(State.DRAINED, "stop the services", 1800, OLD),
            PlanStep(State.ARMED, "make the next boot the new version, once", 300, ONCE),
            PlanStep(State.REBOOTING, "reboot; proof: nonce, new boot_id, image id", 1800, ONCE),
            PlanStep(State.CONFIGURED, "check the config generation; send the secrets", 300, OLD),
            PlanStep(
                State.HEALTHY, "wait until the services are ready; run the specs of all roles on the host", 900, OLD
            ),
            PlanStep(State.SOAKING, "watch", 86400, OLD),
            PlanStep(State.COMMITTED, "make 0.1.0 the default", 120, NEW),
        ),
    )


def test_the_plan_of_a_reinstall() -> None:
    plan = plan_flash(make_host(), make_image(), Door.PXE)
    assert [(step.state, step.action, step.power_fails) for step in plan.steps] == [
        (State.PLANNED, "freeze the plan", OLD),
        (State.LEASED, "hold the host, so that nobody else flashes it", OLD),
        (State.PREFLIGHT, "verify signatures and every blob; check that the host can be reached", OLD),
        (State.DRAINED, "stop the services, if the host runs any", OLD),
        (State.STAGING, "boot the installer from the network, once", OLD),
        (State.WRITING, "partition the OS disk and write all layers", INSTALLER),
        (State.VERIFIED, "read every byte back; compare the protected disks", INSTALLER),
        (State.ARMED, "write the boot entry, last of all", NEW),
        (State.REBOOTING, "reboot; proof: nonce, new boot_id, image id", NEW),
        (State.CONFIGURED, "check the config generation; send the secrets", NEW),
        (State.HEALTHY, "wait until the services are ready; run the specs of all roles on the host", NEW),
        (State.SOAKING, "watch", NEW),
        (State.COMMITTED, "make 0.1.0 the default", NEW),
    ]


def test_the_text_says_how_long_states_took_the_last_time() -> None:
    plan = plan_flash(make_host(), make_image(), Door.PXE)
    took = {str(step.state): 10.0 for step in plan.steps}
    first, *rows = render_plan(plan, took=took).splitlines()
    assert first.endswith("through pxe, about 2 min 10 s")
    assert sum(row.endswith("  about 10 s") for row in rows) == len(plan.steps) == 13
    assert expected_s(plan, took) == 130
    assert expected_s(plan, {"PLANNED": 1.0}) is None, "states that never ran here take nobody knows how long"


def test_the_text_fits_a_narrow_terminal() -> None:
    text = render_plan(plan_flash(make_host(), make_image(), Door.PXE), width=40)
    assert max(map(len, text.splitlines())) <= 40
    words = render_plan(plan_flash(make_host(), make_image(), Door.PXE)).split()
    assert sorted(set(words) - set(text.split())) == []


def test_the_text_names_disks_and_every_state() -> None:
    plan = plan_flash(make_host(), make_image(), Door.PXE)
    text = render_plan(plan)
    assert "serial OS-1" in text
    assert "serial LEDGER-1" in text
    assert all(f"  {step.state:10}  {step.action} " in text for step in plan.steps)


@pytest.mark.parametrize(
    ("host", "image", "door"),
    [
        ({"name": "rpc-2"}, {}, Door.PXE),
        ({"os_disk": {"serial": "OS-2", "size_bytes": 1}}, {}, Door.PXE),
        ({"protected_disks": []}, {}, Door.PXE),
        ({"data_disks": []}, {}, Door.PXE),
        ({}, {"cmdline": "debug"}, Door.PXE),
        ({}, {}, Door.IN_PLACE),
    ],
    ids=["host", "os disk", "protected disks", "data disks", "image", "door"],
)
def test_the_digest_changes_with_what_the_flash_would_do(host, image, door) -> None:
    plain = plan_flash(make_host(), make_image(), Door.PXE)
    assert plan_flash(make_host(**host), make_image(**image), door).digest != plain.digest
    assert plan_flash(make_host(), make_image(), Door.PXE).digest == plain.digest


def test_a_plan_is_plain_data() -> None:
    assert asdict(plan_flash(make_host(), make_image(), Door.PXE))["steps"][0]["state"] == "PLANNED"
