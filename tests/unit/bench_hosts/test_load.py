"""`qtrade bench load`: who is put under load, within which bounds, and what is kept of it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flash.bench import load
from flash.bench.guard import Load, LoadOrder, Origin
from flash.bench.machine import Rpc, Seen
from flash.identity.claims import Claims
from flash.identity.facts import Claim, ClaimState
from qtrade.errors import HostError, Refused
from qtrade.store import open_store
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.statements import verify_statements
from tests.fakes.bench_target import HereTarget
from tests.fakes.cli import Cli
from tests.fakes.examples import make_settings
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

SHORT = LoadOrder(kinds=(Load.RPC,), seconds=1, rps=40)


class Rpcs(BaseHTTPRequestHandler):
    """A validator's RPC that answers, or that says what `said` is."""

    protocol_version = "HTTP/1.1"
    said: bytes | None = None
    status = 200

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = self.said or json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": 7}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        type(self).asked = asked

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Rpcs,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


class World:
    """A project with rpc-1, whose RPC is `server`."""

    def __init__(self, tmp_path, monkeypatch, server) -> None:
        self.settings, self.target, self.monkeypatch = make_settings(tmp_path), HereTarget(), monkeypatch
        self.write()
        self.image = publish_image(self.settings)
        self.server = server
        self.rpc = Rpc(server.server_address[1], "127.0.0.1")
        self.see()
        status = {"version": "0.1.0", "image": self.image.id}
        monkeypatch.setattr(load.AgentLink, "status", lambda _: status)
        monkeypatch.setattr(load, "target_for", lambda *_: self.target)
        monkeypatch.setattr(load, "operator_target", lambda *_: self.target)
        for name in ("PROJECT", "STATE_DIR", "STORE"):
            folder = getattr(self.settings, name.lower())
            monkeypatch.setenv(f"QTRADE_{name}", str(folder))

    def write(self, host: dict | None = None, **environment) -> None:
        name = environment.get("name", "development")
        write_project(self.settings, host={"address": "127.0.0.1", **(host or {})}, environment=environment)
        folder = self.settings.project / "manifests/environments"
        if name != "development":
            (folder / "development.yaml").rename(folder / f"{name}.yaml")

    def see(self, **changes) -> None:
        fields = {"cpu": "EPYC", "threads": 8, "memory_kib": 8 << 20, "link_mbit": 1000, "rpc": self.rpc, "stake": 0}
        seen = Seen(**{**fields, **changes})
        self.monkeypatch.setattr(load, "look_at", lambda _: seen)

    def run(self, order: LoadOrder = SHORT):
        return load.bench_load(self.settings, "rpc-1", order, RecordingReporter())

    @property
    def records(self):
        store = open_store(self.settings)
        trust = ensure_keyring(self.settings).trust
        return verify_statements(self.image.id, store.attestations(self.image.id), trust).benches


@pytest.fixture
def world(tmp_path, monkeypatch, server) -> World:
    return World(tmp_path, monkeypatch, server)


@pytest.mark.parametrize("origin", list(Origin))
def test_a_load_is_put_measured_and_kept(world, origin) -> None:
    if origin is Origin.HERE:
        world.see(rpc=Rpc(world.rpc.port, "0.0.0.0"))
    said = world.run(LoadOrder(kinds=(Load.RPC,), seconds=1, rps=40, origin=origin))
    assert world.records == (said,)
    assert (said.kind, said.host, said.version, said.environment) == ("load", "rpc-1", "0.1.0", "development")
    assert said.hardware_class == "EPYC, 8 threads, 8 GiB, 1 Gbit/s"
    assert {"bench.rpc_p50_ms", "bench.rpc_p99_ms", "bench.rpc_error_share", "bench.rpc_achieved_rps"} <= set(
        said.metrics
    )
    assert said.metrics["bench.rpc_error_share"] == 0
    assert (said.asked["rps"], said.asked["origin"]) == (40, origin.value)
    assert world.server.RequestHandlerClass.asked["method"] in ("getSlot", "getBlockHeight", "getVersion", "getHealth")


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        (b'{"error": {"code": -32005}, "id": null}', 200, "an answer to something else"),
        (b"busy", 503, "HTTP 503"),
        (b"no json", 200, "no JSON"),
        (b"[1]", 200, "an answer to something else"),
    ],
)
def test_answers_that_are_none_fail_it_and_the_record_says_why(world, said, status, reason) -> None:
    world.server.RequestHandlerClass.said, world.server.RequestHandlerClass.status = said, status
    record = world.run()
    assert not record.passed
    assert any(reason in one for one in record.reasons)
    assert world.records[0].passed is False


def test_nobody_listens(world) -> None:
    world.see(rpc=Rpc(1, "127.0.0.1"))
    record = world.run()
    assert not record.passed
    assert "no connection" in " ".join(record.reasons)


def test_a_host_without_a_validator_is_not_measured_as_one_that_answers_at_once(world) -> None:
    world.see(rpc=None)
    record = world.run()
    assert (record.passed, dict(record.metrics)) == (False, {})
    assert record.missing == {"bench.rpc": "the image has no validator"}
    assert record.reasons == ("nothing was measured",)


@pytest.mark.parametrize(
    ("host", "seen", "says"),
    [
        ({}, {"stake": 5}, "votes with a stake of 5"),
        ({"role": "validator"}, {"stake": None, "stake_problem": "URLError"}, "does not tell whether it has stake"),
    ],
)
def test_a_host_with_stake_is_left_alone(world, host, seen, says) -> None:
    world.write(host)
    world.see(**seen)
    with pytest.raises(Refused, match=says):
        world.run()
    assert world.records == ()


def test_a_host_that_holds_a_staked_identity_is_left_alone(world) -> None:
    claim = Claim("Vote111111111111111111111111111111111111111", 1, ClaimState.HELD, "rpc-1")
    Claims(open_store(world.settings).objects).begin(claim)
    with pytest.raises(Refused, match="has the staked identity"):
        world.run()


def test_production_allows_no_load_unless_its_manifest_does(world) -> None:
    world.write({"environment": "production"}, name="production", allow_standins=False)
    with pytest.raises(Refused, match="production allows no load") as caught:
        world.run()
    assert "bench.allow_load" in caught.value.resolution
    world.write({"environment": "production"}, name="production", allow_standins=False, bench={"allow_load": True})
    assert world.run().environment == "production"


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (LoadOrder(seconds=61), "--for is 61, development allows 60"),
        (LoadOrder(seconds=60, rps=101), "--rps is 101, development allows 100"),
        (LoadOrder(seconds=60, writes=101), "--writes is 101"),
    ],
)
def test_more_than_the_bounds_is_refused(world, order, says) -> None:
    world.write(bench={"max_rps": 100, "max_seconds": 60})
    with pytest.raises(Refused, match=says):
        world.run(order)


def test_a_loopback_rpc_is_not_reached_from_here(world) -> None:
    with pytest.raises(Refused, match=r"listens on 127\.0\.0\.1 only"):
        world.run(LoadOrder(kinds=(Load.RPC,), seconds=1, origin=Origin.HERE))


def test_limits_of_the_environment_are_judged(world) -> None:
    world.write(bench={"limits": {"bench.rpc_p99_ms": 9, "bench.rpc_p50_ms": 9, "bench.stream_delay_p99_ms": 5}})
    told = {"latency": {"p50_ms": 1.5, "p99_ms": 9.5}, "error_share": 0.0, "reasons": []}
    world.monkeypatch.setattr(load, "run_on_host", lambda *_, **__: told)
    record = world.run()
    assert not record.passed
    assert record.reasons == (
        "bench.rpc_p99_ms is 9.5, its limit is 9",
        "bench.stream_delay_p99_ms was not measured, and has a limit of 5",
    )


def test_another_image_than_the_stores_is_not_measured(world, monkeypatch) -> None:
    monkeypatch.setattr(load.AgentLink, "status", lambda _: {"version": "0.1.0", "image": "f" * 64})
    with pytest.raises(Refused, match="runs image ffff"):
        world.run()


def test_of_an_environment_hosts_with_stake_are_passed_over(world, capsys) -> None:
    cli = Cli(world.monkeypatch, capsys)
    manifests = world.settings.project / "manifests/hosts"
    manifests.joinpath("val-1.yaml").write_text(manifests.joinpath("rpc-1.yaml").read_text().replace("rpc-1", "val-1"))
    told = {"latency": {"p50_ms": 1.5}, "error_share": 0.0, "reasons": []}
    world.monkeypatch.setattr(load, "run_on_host", lambda *_, **__: told)
    claims = Claims(open_store(world.settings).objects)
    claims.begin(Claim("Vote111111111111111111111111111111111111111", 1, ClaimState.HELD, "val-1"))
    args = ("bench", "load", "--env", "development", "--for", "1s", "--kind", "rpc")
    code, out, err = cli(*args)
    assert code == 0, err
    assert out.startswith("rpc-1: passed")
    assert "val-1: error: val-1 has the staked identity" in err
    claims.begin(Claim("Vote222222222222222222222222222222222222222", 1, ClaimState.HELD, "rpc-1"))
    assert cli(*args)[0] == Refused.exit_code, "nothing at all was measured"


def test_the_command_prints_records_and_ends_by_what_came_of_it(world, capsys) -> None:
    cli = Cli(world.monkeypatch, capsys)
    told = {"latency": {"p50_ms": 1.5}, "error_share": 0.0, "reasons": []}
    world.monkeypatch.setattr(load, "run_on_host", lambda *_, **__: told)
    args = ("bench", "load", "--host", "rpc-1", "--for", "1s", "--kind", "rpc", "--rps", "40")
    document = cli.json(*args)
    assert document["records"][0]["passed"] is True
    plan = cli.json(*args, "--dry-run")
    assert (plan["hosts"], plan["environments"], plan["asked"]["seconds"]) == (["rpc-1"], ["development"], 1)
    told["reasons"] = ["more than 1.0% failed"]
    code, out, err = cli(*args)
    assert code == HostError.exit_code
    assert "rpc-1: FAILED, demo 0.1.0 on EPYC" in out
    assert "the load test failed on rpc-1" in err
    assert len(world.records) == 2
