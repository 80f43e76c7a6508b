"""The unit's deadlines beside the agent's."""

import pytest
import yaml

from flash.agent.units import RESTART_TIMEOUT_S
from tests.unit.roles.agave.conftest import ROLE

pytestmark = pytest.mark.unit


def test_an_exit_that_hangs_leaves_half_of_a_pushs_time_for_the_end_and_the_start() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    assert 0 < defaults["agave_exit_timeout_s"] * 2 <= RESTART_TIMEOUT_S
