"""Whether a host votes with stake is asked of its own validator; whatever is not clear is no answer."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from flash.bench.on_host import look

pytestmark = pytest.mark.unit

OURS, OTHER = "Ours1111", "Other111"


class Node(BaseHTTPRequestHandler):
    """Answers by method with what `answers` say; a text goes out as it is."""

    answers: ClassVar[dict[str, Any]] = {}

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.answers.get(asked["method"], {"error": {"code": -32601, "message": "Method not found"}})
        body = (
            answer.encode() if isinstance(answer, str) else json.dumps({"jsonrpc": "2.0", "id": 1, **answer}).encode()
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def node() -> Iterator[tuple[type[Node], dict[str, Any]]]:
    handler = type("Handler", (Node,), {"answers": {"getIdentity": {"result": {"identity": OURS}}}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield handler, {"port": made.server_address[1], "bind": "0.0.0.0"}
        made.shutdown()


def accounts(*stakes: tuple[str, int], delinquent: tuple[str, int] | None = None) -> dict[str, Any]:
    made = [{"nodePubkey": node, "activatedStake": stake} for node, stake in stakes]
    late = [{"nodePubkey": delinquent[0], "activatedStake": delinquent[1]}] if delinquent else []
    return {"result": {"current": made, "delinquent": late}}


@pytest.mark.parametrize(
    ("answer", "stake"),
    [
        (accounts((OTHER, 9)), 0),
        (accounts((OTHER, 9), (OURS, 5)), 5),
        (accounts((OURS, 5), (OURS, 2)), 7),
        # Delinquent, it would vote again at any moment.
        (accounts(delinquent=(OURS, 3)), 3),
        (accounts(), 0),
    ],
)
def test_the_stake_of_the_nodes_own_vote_accounts(node, answer, stake) -> None:
    handler, rpc = node
    handler.answers["getVoteAccounts"] = answer
    assert look.find_stake(rpc) == {"stake": stake, "identity": OURS, "problem": ""}


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": -32005, "message": "behind"}},
        "no json",
        {"result": []},
        {"result": {"current": [{}]}},
        "[" * 50_000,
    ],
)
def test_what_is_not_clear_is_no_answer(node, answer) -> None:
    handler, rpc = node
    handler.answers["getVoteAccounts"] = answer
    found = look.find_stake(rpc)
    assert found["stake"] is None
    assert found["problem"]


def test_nobody_listens() -> None:
    assert look.find_stake({"port": 1, "bind": "127.0.0.1"})["stake"] is None
