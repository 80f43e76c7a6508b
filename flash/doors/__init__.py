"""Doors: ways to get the agent running on a host. Each gives one function per state."""

from collections.abc import Callable

from flash.context import Evidence, FlashContext
from flash.states import State
from qtrade.errors import Refused

Steps = dict[State, Callable[[FlashContext, float], Evidence]]


class DoorClosed(Refused):
    """The host cannot be entered this way; another door may be open."""


__all__ = ["DoorClosed", "Steps"]
