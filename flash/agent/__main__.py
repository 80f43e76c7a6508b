"""The agent's verbs. Each loads what it needs and no more: on a slow machine a push waits for every module.

`observe` is a program of its own.
"""

import importlib
import json
import os
import sys

from . import confine
from .errors import AgentError
from .host import Host

# Verb -> the module that it is in, and its function there.
VERBS = {
    "install": ("installing", "run_install"),
    "kexec": ("installing", "run_kexec"),
    "run": ("running", "run_job"),
    "confirm": ("running", "run_confirm"),
    "status": ("running", "show_status"),
    "config": ("running", "show_config"),
    "revert": ("running", "revert_config"),
    "boot-ok": ("running", "note_boot"),
}
_TAKE_WORDS = ("install", "kexec")


def main() -> int:
    """Run the verb of the command line; the exit code is 0 when it succeeded, 1 when it failed, 2 for a wrong verb."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in VERBS or (len(sys.argv) != 2 and verb not in _TAKE_WORDS):
        print(f"usage: python3 -m agent {'|'.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        if verb == "run" and not confine.is_confined(os.environ):
            confine.enter(Host(), verb)
        module, function = VERBS[verb]
        return int(getattr(importlib.import_module(f".{module}", __package__), function)())
    except AgentError as error:
        print(json.dumps({"event": "error", "error": error.as_json()}), flush=True)
        print(f"agent: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
