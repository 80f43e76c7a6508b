"""The BMC of a lab host: one background process that serves Redfish and owns the host's QEMU.

    python -m flash.lab.bmc --dir=<folder of the lab host> --tools=<tools root> --cache=<folder> [--owner=<pid>]

It returns once it listens, and goes on in the background until it gets SIGTERM or the owner is gone.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from flash.lab.board import Board, EventSink, Guest
from flash.lab.boot import BoardState, build_spec, load_state, save_state
from flash.lab.facts import LabPaths, load_facts
from flash.lab.redfish_server import RedfishServer
from qtrade.errors import QtradeError
from qtrade.machine.accel import probe_accelerator
from qtrade.machine.machine import Qemu, start_machine
from qtrade.machine.pids import read_start_time
from qtrade.toolsroot import ToolsRoot


def main() -> int:
    """Run the BMC; the exit code is that of the foreground part."""
    parser = argparse.ArgumentParser(prog="flash.lab.bmc")
    for name in ("dir", "tools", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--owner", type=int)
    args = parser.parse_args()
    try:
        return _run(LabPaths(args.dir), ToolsRoot(args.tools), args.cache, owner=args.owner)
    except (QtradeError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - this process has no reporter
        return 1


def _run(paths: LabPaths, tools: ToolsRoot, cache: Path, *, owner: int | None) -> int:
    facts = load_facts(paths)
    qemu = Qemu(tools, probe_accelerator(tools, cache=cache))

    def start(state: BoardState, on_event: EventSink) -> Guest:
        return start_machine(build_spec(facts, paths, state), qemu, paths.folder, on_event=on_event)

    board = Board(
        load_state(paths),
        medium=paths.medium,
        start=start,
        keep=lambda state: save_state(paths, state),
        note=lambda text: print("board:", text, flush=True),  # noqa: T201 - the log of this process
    )
    server = RedfishServer(facts, board, password=paths.password.read_text().strip(), downloads=paths.folder)
    is_wanted = _watch(owner)
    child = os.fork()
    if child != 0:
        # The socket listens already, so whoever waits for this process may connect.
        paths.bmc_pid.write_text(f"{child}\n")
        os._exit(0)
    _detach(paths.bmc_log)
    signal.signal(signal.SIGTERM, lambda *_: board.close())
    threading.Thread(target=server.serve_forever, name="redfish", daemon=True).start()
    board.run(is_wanted)
    server.shutdown()
    paths.bmc_pid.unlink(missing_ok=True)
    return 0


def _watch(owner: int | None) -> Callable[[], bool]:
    if owner is None:
        return lambda: True
    started = read_start_time(owner)
    return lambda: read_start_time(owner) == started


def _detach(log: Path) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor, target in ((nothing, 0), (sink, 1), (sink, 2)):
        os.dup2(descriptor, target)


if __name__ == "__main__":
    sys.exit(main())
