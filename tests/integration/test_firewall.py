"""The role ufw_solana with the real iptables of its own baked layer, in network namespaces of the test.

The cases are in `firewall/`; pytest runs them again inside the chamber that stacks the layers.
"""

from pathlib import Path

import pytest

from qtrade.settings import load_settings
from tests.fakes.lab_layers import bake_recipe
from tests.fakes.role_layers import run_case

pytestmark = pytest.mark.integration


def test_in_the_layers() -> None:
    settings = load_settings()
    layers = bake_recipe(settings, "lab", until="ufw_solana").blobs("ufw_solana")
    run_case(settings, layers, Path(__file__).with_name("firewall") / "case_firewall.py")
