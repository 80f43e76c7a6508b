"""The QMP client against a hand-written QEMU at the other end of a socket pair."""

import json
import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtrade.errors import ToolError
from qtrade.machine.qmp import QmpClient, QmpEvent, connect_qmp

pytestmark = pytest.mark.unit


class FakeQemu:
    """Answers each command by what `answers` says, with an event before; hangs up at `quit`."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.requests: list[str] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        self._say({"QMP": {}})
        with self.connection.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                self.requests.append(request["execute"])
                if request["execute"] == "quit":
                    break
                if request["execute"] == "bad":
                    self._say({"error": {"class": "GenericError", "desc": "no"}, "id": request["id"]})
                    continue
                self._say({"event": "RESUME", "data": {"n": 1}})
                self._say({"return": {"stale": True}, "id": 0})
                self._say({"return": {"for": request["execute"]}, "id": request["id"]})
        self.connection.close()

    def _say(self, message: object) -> None:
        self.connection.sendall(json.dumps(message).encode() + b"\r\n")


@pytest.fixture
def pair() -> Iterator[tuple[QmpClient, FakeQemu, "queue.Queue[QmpEvent | None]"]]:
    ours, theirs = socket.socketpair()
    fake = FakeQemu(theirs)
    events: queue.Queue[QmpEvent | None] = queue.Queue()
    client = QmpClient(ours, events.put)
    yield client, fake, events
    client.close()
    fake.thread.join(5)
    theirs.close()


def test_commands_get_their_own_answer(pair) -> None:
    client, fake, events = pair
    assert client.execute("query-status") == {"for": "query-status"}
    assert fake.requests == ["qmp_capabilities", "query-status"]
    assert events.get(timeout=5) == QmpEvent("RESUME", {"n": 1})


def test_refusal_is_our_error(pair) -> None:
    with pytest.raises(ToolError, match="QEMU refused bad"):
        pair[0].execute("bad")


def test_end_of_qemu_is_an_error_and_an_event(pair) -> None:
    client, _, events = pair
    with pytest.raises(ToolError, match="did not answer quit"):
        client.execute("quit", timeout_s=5)
    assert events.get(timeout=5) == QmpEvent("RESUME", {"n": 1})
    assert events.get(timeout=5) is None
    with pytest.raises(ToolError, match="did not answer query-status"):
        client.execute("query-status", timeout_s=5)


def test_connects_below_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    short = tmp_path / "s"
    listener.bind(str(short))
    short.rename(folder / "qmp.sock")
    listener.listen()
    clients: list[QmpClient] = []
    thread = threading.Thread(
        target=lambda: clients.append(connect_qmp(folder / "qmp.sock", lambda _: None)), daemon=True
    )
    thread.start()
    fake = FakeQemu(listener.accept()[0])
    thread.join(5)
    assert clients[0].execute("x") == {"for": "x"}
    clients[0].close()
    fake.thread.join(5)
    listener.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="does not listen"):
        connect_qmp(tmp_path / "qmp.sock", lambda _: None, is_alive=lambda: False)
