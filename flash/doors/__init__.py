"""Doors: ways to get the agent running on a host. Each gives one function per state."""

from collections.abc import Callable

from flash.context import Evidence, FlashContext
from flash.states import State

Steps = dict[State, Callable[[FlashContext, float], Evidence]]

__all__ = ["Steps"]
