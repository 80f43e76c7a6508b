"""Run the roles' specs anywhere: one spec, three places (chroot of the layers, booted machine, flashed host)."""

from qtrade.specs.run import TESTS_FAILED, Mark, SpecResult, read_report, spec_command

__all__ = ["TESTS_FAILED", "Mark", "SpecResult", "read_report", "spec_command"]
