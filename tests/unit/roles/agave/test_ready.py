"""When the validator counts as ready."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytestmark = pytest.mark.unit

DEAD = "http://127.0.0.1:9"


class Rpc:
    """An RPC node whose health and slot a test sets; the slot moves on by `step` per answer."""

    def __init__(self, slot=1000, health="ok", step=0):
        self.slot, self.health, self.step = slot, health, step
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                method = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["method"]
                answer = node.answer(method)
                body = json.dumps({"jsonrpc": "2.0", "id": 1, **answer}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, method):
        if method == "getHealth" and self.health != "ok":
            return {"error": {"code": -32005, "message": self.health}}
        if method == "getSlot":
            self.slot += self.step
        return {"result": self.slot if method == "getSlot" else "ok"}


@pytest.fixture
def rpc():
    made = []

    def make(**values):
        made.append(Rpc(**values))
        return made[-1]

    yield make
    for node in made:
        node.server.shutdown()
        node.server.server_close()


@pytest.fixture
def init_complete(tmp_path):
    path = tmp_path / "init-complete"
    path.touch()
    return path


def look(ready, init_complete, local, references=(), *, max_lag=100, wait_s=0.0):
    settings = ready.Settings(local, tuple(references), max_lag, 60)
    return ready.wait_until_ready(settings, init_complete, wait_s=wait_s, interval_s=0.01)


def test_ready_with_and_without_references(ready, rpc, init_complete) -> None:
    local = rpc(slot=1000)
    assert look(ready, init_complete, local.address).ready
    verdict = look(ready, init_complete, local.address, [rpc(slot=1050).address, rpc(slot=1090).address])
    assert (verdict.ready, verdict.lag, verdict.reference_slot) == (True, 90, 1090)


def test_a_node_that_says_ok_far_behind_is_not_ready(ready, rpc, init_complete) -> None:
    verdict = look(ready, init_complete, rpc(slot=500).address, [rpc(slot=1000).address])
    assert (verdict.ready, verdict.health) == (False, "ok")
    assert verdict.reasons == ("500 slots behind the reference, 100 are allowed",)


def test_a_node_that_says_it_is_behind_is_not_ready(ready, rpc, init_complete) -> None:
    verdict = look(ready, init_complete, rpc(health="Node is behind by 42 slots").address)
    assert verdict.reasons == ("getHealth says: Node is behind by 42 slots",)


def test_initialisation_has_to_be_complete(ready, rpc, tmp_path) -> None:
    assert look(ready, tmp_path / "none", rpc().address).reasons == ("initialisation is not complete",)


def test_references_that_are_silent_are_no_proof(ready, rpc, init_complete) -> None:
    assert look(ready, init_complete, rpc().address, [DEAD]).reasons == ("none of 1 reference RPCs answers",)
    assert look(ready, init_complete, rpc(slot=10).address, [DEAD, rpc(slot=11).address]).ready


def test_nothing_answers(ready, init_complete, rpc) -> None:
    verdict = look(ready, init_complete, DEAD, [rpc().address])
    assert (verdict.ready, verdict.health, verdict.slot) == (False, None, None)
    assert verdict.reasons == (f"JSON-RPC at {DEAD} does not answer",)


def test_catching_up_is_awaited_and_told(ready, rpc, init_complete, capsys) -> None:
    local, reference = rpc(slot=0, step=200), rpc(slot=2000, step=1)
    verdict = look(ready, init_complete, local.address, [reference.address], wait_s=30)
    assert verdict.ready
    assert verdict.catch_up["gained_per_s"] > 0
    assert "slots behind the reference" in capsys.readouterr().err


def test_the_deadline_ends_the_wait(ready, rpc, init_complete) -> None:
    verdict = look(ready, init_complete, rpc(slot=0).address, [rpc(slot=2000, step=1).address], wait_s=0.1)
    assert (verdict.ready, verdict.catch_up["eta_s"]) == (False, None)


def test_estimate_is_of_both_moving(ready) -> None:
    first = ready.Observation(0.0, True, "ok", 100, (1100,))
    later = ready.Observation(10.0, True, "ok", 225, (1125,))
    assert ready.estimate(first, later, 900) == {"slots_per_s": 12.5, "gained_per_s": 10.0, "eta_s": 90.0}


def write(tmp_path, **config):
    (tmp_path / "i.json").write_text(
        json.dumps({"interfaces": [{"name": "json-rpc", "port": 8899}, {"name": "admin"}]})
    )
    (tmp_path / "c.json").write_text(json.dumps(config))
    return tmp_path / "i.json", tmp_path / "c.json"


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8899"),
        ("0.0.0.0", "http://127.0.0.1:8899"),
        ("192.0.2.7", "http://192.0.2.7:8899"),
    ],
)
def test_settings_come_from_image_and_config(bind, address, ready, tmp_path) -> None:
    settings = ready.read_settings(
        *write(tmp_path, rpc_bind=bind, reference_rpcs=["https://r"], max_slot_lag=7, catch_up_deadline_s=9)
    )
    assert settings == ready.Settings(address, ("https://r",), 7, 9.0)


def test_reference_that_is_no_address_is_refused(ready, tmp_path) -> None:
    with pytest.raises(ValueError, match="no http or https address"):
        ready.read_settings(*write(tmp_path, reference_rpcs=["file:///etc/passwd"]))


def test_program_prints_one_document(ready, rpc, init_complete, tmp_path, monkeypatch, capsys) -> None:
    node = rpc()
    interfaces, config = write(tmp_path, reference_rpcs=[node.address])
    interfaces.write_text(json.dumps({"interfaces": [{"name": "json-rpc", "port": node.server.server_port}]}))
    monkeypatch.setattr(ready, "INTERFACES", interfaces)
    monkeypatch.setattr(ready, "CONFIG", config)
    monkeypatch.setattr(ready, "INIT_COMPLETE", init_complete)
    assert ready.main(["--wait", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["lag"] == 0
    interfaces.write_text("{}")
    assert ready.main([]) == 2
