"""Fixtures that more than one file takes."""

from tests.fakes.identity_rig import all_hosts, fleet, operator

__all__ = ["all_hosts", "fleet", "operator"]
