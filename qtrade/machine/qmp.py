"""A client of QEMU's machine protocol (QMP): commands with an answer, and events as they come."""

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from qtrade.errors import ToolError

_RETRY_S = 0.05


@dataclass(frozen=True)
class QmpEvent:
    """Something that happened in QEMU, such as `SHUTDOWN` with `{"guest": true, "reason": "guest-reset"}`."""

    name: str
    data: Mapping[str, object] = field(default_factory=dict)


class QmpClient:
    """One connection. A thread reads it and hands each event to `on_event`, and None when QEMU has closed it."""

    def __init__(self, connection: socket.socket, on_event: Callable[[QmpEvent | None], None]) -> None:
        self._connection = connection
        self._on_event = on_event
        self._answers: queue.Queue[dict[str, object] | None] = queue.Queue()
        self._turn = threading.Lock()
        self._next_id = 0
        self._reader = threading.Thread(target=self._read, name="qmp", daemon=True)
        self._reader.start()
        self.execute("qmp_capabilities")

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float = 10) -> object:
        """Run one command and return its answer. Raises `ToolError` when QEMU refuses, is gone or does not answer."""
        with self._turn:
            self._next_id += 1
            request = {"execute": command, "arguments": dict(arguments or {}), "id": self._next_id}
            try:
                self._connection.sendall(json.dumps(request).encode() + b"\n")
                answer = self._await(self._next_id, time.monotonic() + timeout_s)
            except (OSError, queue.Empty) as error:
                raise ToolError(f"QEMU did not answer {command}") from error
        if "error" in answer:
            raise ToolError(f"QEMU refused {command}", details=json.dumps(answer["error"]))
        return answer["return"]

    def close(self) -> None:
        """Hang up. QEMU goes on."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _await(self, request_id: int, deadline: float) -> dict[str, object]:
        while True:
            answer = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            if answer is None:
                self._answers.put(None)
                raise queue.Empty
            if answer.get("id") == request_id:
                return answer

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "event" in message:
                    self._on_event(QmpEvent(message["event"], message.get("data", {})))
                elif "id" in message:
                    self._answers.put(message)
        self._answers.put(None)
        self._on_event(None)


def connect_qmp(
    path: Path,
    on_event: Callable[[QmpEvent | None], None],
    *,
    timeout_s: float = 10,
    is_alive: Callable[[], bool] = lambda: True,
) -> QmpClient:
    """Connect to the socket at `path` as soon as QEMU listens. Raises `ToolError` when it does not, or is gone."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return QmpClient(_connect(path), on_event)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if not is_alive() or time.monotonic() > deadline:
                raise ToolError(f"QEMU does not listen at {path}") from error
        time.sleep(_RETRY_S)


def _connect(path: Path) -> socket.socket:
    # A socket path may have 107 bytes only; through the folder's descriptor it is always short.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection
