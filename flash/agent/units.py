"""The config inputs that an image declares, and the units that reload or restart when one of them changes."""

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

from .errors import AgentError
from .programs import run

# A push waits so long for each unit.
RESTART_TIMEOUT_S = 180
_SETTLE_S = 2.0
_KEY = "[a-z_][a-z0-9_-]{0,31}"
_VERBS = {"restart": "restart", "reload": "reload-or-restart"}


class UnitAction(NamedTuple):
    """What is done to a unit."""

    name: str
    action: str


class Inputs(NamedTuple):
    """Declared files and secrets, each with its units.

    A fault of an `access` file may cut the host off; only a boot reads a `reboot` file.
    """

    files: Mapping[str, Tuple[UnitAction, ...]]
    secrets: Mapping[str, Tuple[UnitAction, ...]]
    access: FrozenSet[str] = frozenset()
    reboot: FrozenSet[str] = frozenset()

    def units_of(self, path: str) -> Optional[Tuple[UnitAction, ...]]:
        """Return the units of a config file, None when the image does not declare it.

        A declared path may hold `{key}`, which stands for one plain name.
        """
        declared = self._declared(path)
        return None if declared is None else self.files[declared]

    def guarding_access(self, paths: Iterable[str]) -> List[str]:
        """Return those of the paths that SSH, network or firewall depend on."""
        return [path for path in paths if self._declared(path) in self.access]

    def read_at_boot(self, paths: Iterable[str]) -> List[str]:
        """Return those of the paths that only a boot reads."""
        return [path for path in paths if self._declared(path) in self.reboot]

    def _declared(self, path: str) -> Optional[str]:
        if path in self.files:
            return path
        for declared in self.files:
            before, key, after = declared.partition("{key}")
            if key and re.fullmatch(re.escape(before) + _KEY + re.escape(after), path):
                return declared
        return None

    def actions_of(self, paths: Iterable[str]) -> List[UnitAction]:
        """Return the actions for changed files, each unit once; a restart outweighs a reload."""
        return merge_actions(action for path in paths for action in self.units_of(path) or ())


def merge_actions(actions: Iterable[UnitAction]) -> List[UnitAction]:
    """Return each unit once, in the order of the first action on it; a restart outweighs a reload."""
    chosen: Dict[str, UnitAction] = {}
    for action in actions:
        if action.name not in chosen or action.action == "restart":
            chosen[action.name] = action
    return list(chosen.values())


def parse_inputs(texts: Iterable[str]) -> Inputs:
    """Parse the files of inputs.d. Raises `AgentError`."""
    files: Dict[str, Tuple[UnitAction, ...]] = {}
    secrets: Dict[str, Tuple[UnitAction, ...]] = {}
    marked: Dict[str, Set[str]] = {"access": set(), "reboot": set()}
    for text in texts:
        try:
            declared = json.loads(text)
            files.update({one["path"]: _parse_units(one) for one in declared.get("files", [])})
            for mark, paths in marked.items():
                paths.update(one["path"] for one in declared.get("files", []) if one.get(mark) is True)
            secrets.update({one["name"]: _parse_units(one) for one in declared.get("secrets", [])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AgentError(
                "inputs-invalid", f"the image declares its config inputs wrongly: {error!r}", "bake it again"
            ) from error
    return Inputs(files, secrets, frozenset(marked["access"]), frozenset(marked["reboot"]))


def read_inputs(folder: Path) -> Inputs:
    """Read the declared inputs of the running image."""
    return parse_inputs(path.read_text() for path in sorted(folder.glob("*.json")))


def act(action: UnitAction) -> None:
    """Reload or restart a unit; a reload that fails is tried once more, as a start of a unit that has failed. Raises `AgentError`."""
    command = ("systemctl", _VERBS[action.action], action.name)
    if action.action == "reload":
        with contextlib.suppress(AgentError):
            run(*command, timeout_s=RESTART_TIMEOUT_S)
            return
    # Starts that systemd counted against config that was rejected must not refuse this one. A unit that is not loaded (1) has no count.
    run("systemctl", "reset-failed", action.name, allowed=1)
    run(*command, timeout_s=RESTART_TIMEOUT_S)


def act_on_all(actions: Iterable[UnitAction], do: Callable[[UnitAction], None] = act) -> None:
    """Do all actions, whatever becomes of one; then see that no unit has failed a moment later. Raises `AgentError`."""
    done = list(actions)
    errors = []
    for action in done:
        try:
            do(action)
        except AgentError as error:
            errors.append(error)
    if errors:
        raise AgentError(errors[0].code, "; ".join(error.message for error in errors), errors[0].remedy)
    if done and do is act:
        # A reload is over when it ends; what was started may fail a moment later.
        if any(action.action == "restart" for action in done):
            time.sleep(_SETTLE_S)
        failed = [action.name for action in done if is_failed(action.name)]
        if failed:
            raise AgentError("unit-failed", f"failed after the change: {', '.join(failed)}", "see their journals")


def act_on_all_regardless(actions: Iterable[UnitAction], do: Callable[[UnitAction], None] = act) -> None:
    """Do all actions on the way back, where a fault of one must not keep the others from theirs."""
    for action in actions:
        try:
            do(action)
        except AgentError:
            continue


def is_failed(name: str) -> bool:
    """Say whether a unit has failed or is being restarted after a fault."""
    state = run("systemctl", "show", "--property=ActiveState,SubState,Result", name)
    return "ActiveState=failed" in state or "SubState=auto-restart" in state


def _parse_units(fields: Mapping[str, Any]) -> Tuple[UnitAction, ...]:
    found = tuple(UnitAction(str(one["name"]), str(one["action"])) for one in fields.get("units", []))
    if any(one.action not in _VERBS for one in found):
        raise ValueError("an action is neither reload nor restart")
    return found
