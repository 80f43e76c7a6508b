"""The states of a flash, from the table in `flash/states.py`."""

from docs.site.pictures.canvas import Canvas, Kind
from flash.states import ENDS, State, rules, sequence
from qtrade.manifest.driver import Door

_WIDTH, _HEIGHT, _GAP = 130, 30, 18
_TOP = 96
_KINDS: dict[str, Kind] = {"the old version": "old", "the new version": "new"}


def draw_states() -> Canvas:
    """Draw both sequences side by side, each state with what boots if power fails in it and where a failure leads."""
    steps = len(sequence(Door.PXE))
    canvas = Canvas(
        900, _TOP + steps * (_HEIGHT + _GAP) + 50, "The states of a flash, in place and through the installer"
    )
    for left, door, name in ((20, Door.IN_PLACE, "In place"), (470, Door.PXE, "Through the installer")):
        _draw_lane(canvas, left, door, name)
    return canvas


def _draw_lane(canvas: Canvas, left: float, door: Door, name: str) -> None:
    order = sequence(door)
    height = 62 + len(order) * (_HEIGHT + _GAP)
    canvas.box(left, 20, 410, height, name, kind="group")
    canvas.label(left + 15 + _WIDTH / 2, 72, "state", anchor="middle")
    canvas.label(left + 292, 72, "if it fails", anchor="start")
    canvas.label(left + 155, 72, "power fails: boots")
    for number, state in enumerate(order):
        top = _TOP - 10 + number * (_HEIGHT + _GAP)
        rule = rules(door, state)
        canvas.box(left + 15, top, _WIDTH, _HEIGHT, state, kind=_kind(rule.power_fails, state))
        canvas.label(left + 155, top + 19, _short(rule.power_fails))
        canvas.label(left + 292, top + 19, rule.on_failure)
        if number:
            canvas.arrow((left + 15 + _WIDTH / 2, top - _GAP), (left + 15 + _WIDTH / 2, top))


def _kind(boots: str, state: State) -> Kind:
    return "good" if state in ENDS else _KINDS.get(boots, "secret" if "once" in boots else "bad")


def _short(boots: str) -> str:
    """Return what boots, in the words of the picture."""
    return (
        boots.replace("the installer again, at the next flash", "installer, again")
        .replace("the ", "")
        .replace(" version", "")
    )
