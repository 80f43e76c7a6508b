"""Measurements against what really serves: the stand-in validator's RPC and Geyser stream, and a PostgreSQL of this machine."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flash.bench.machine import look_at
from flash.bench.on_host.open_loop import Bounds
from flash.bench.on_host.rpc import METHODS
from flash.bench.rpc_from_here import load_from_here
from flash.bench.sent import run_on_host
from qtrade.settings import load_settings
from tests.fakes.bench_target import HereTarget
from tests.fakes.examples import make_settings
from tests.fakes.ssh_server import serve_ssh
from tests.integration.test_agave_standin import LAUNCHER
from tests.integration.test_geyser_standin import free_port, loaded, write_config

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).parents[2]
ROLES = PROJECT / "ansible/roles"
MEASURE = ROLES / "geyser/files/usr/lib/qtrade/geyser/measure.py"
WRITES = ROLES / "postgres/files/usr/lib/qtrade/postgres/bench.py"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
ACCOUNT = "postgres"


def measure(config: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [MEASURE, "--config", config, *options], capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1])["result"])


def test_subscriptions_are_timed_by_the_plugins_own_clock(tmp_path) -> None:
    config = write_config(tmp_path)
    with loaded(config):
        told = measure(config, "--streams", "3", "--seconds", "4")
    assert told["reasons"] == []
    assert told["slots_per_s"] > 0.5
    assert 0 <= told["delay_p50_ms"] <= told["delay_p90_ms"] <= told["delay_p99_ms"] <= told["delay_max_ms"]
    assert told["slot_gaps"] >= 0


def test_a_stream_that_refuses_or_ends_fails_the_measurement(tmp_path) -> None:
    config = write_config(tmp_path)
    stranger = tmp_path / "stranger.json"
    fields = json.loads(config.read_text())
    fields["grpc"]["x_token"] = "another-one"
    stranger.write_text(json.dumps(fields))
    with loaded(config) as validator:
        told = measure(stranger, "--streams", "2", "--seconds", "2")
        assert told["reasons"][0].startswith("2 of 2 subscriptions failed: ConnectionError: status 16")
        assert "delay_p50_ms" not in told
        client = subprocess.Popen(
            [MEASURE, "--config", config, "--streams", "1", "--seconds", "60"], stdout=subprocess.PIPE, text=True
        )
        time.sleep(2)
        validator.kill()
        out, _ = client.communicate(timeout=60)
    assert "1 of 1 subscriptions failed" in json.loads(out)["result"]["reasons"][0]


@pytest.fixture
def rpc(tmp_path) -> Iterator[int]:
    """The port of a stand-in validator's RPC."""
    port = free_port()
    programs = PROJECT / "tests/standins/agave/bin"
    subprocess.run(
        [programs / "solana-keygen", "new", "--outfile", tmp_path / "id.json"], check=True, capture_output=True
    )
    (tmp_path / "ledger").mkdir()
    flags = [
        "--identity",
        tmp_path / "id.json",
        "--ledger",
        tmp_path / "ledger",
        "--rpc-port",
        str(port),
        "--private-rpc",
    ]
    flags += ["--no-xdp", "--no-os-network-limits-test", "--gossip-port", str(free_port())]
    command = [sys.executable, "-IBc", LAUNCHER, programs / "agave-validator", *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as validator:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and validator.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
        validator.kill()


def test_rpc_is_loaded_from_the_host_and_from_here(rpc) -> None:
    bounds = {"rps": 20.0, "seconds": 2.0, "warm_up_s": 0.2, "error_share": 0.01}
    asked = {"host": "127.0.0.1", "port": rpc, "methods": METHODS, "bounds": bounds}
    there = run_on_host(HereTarget(), ("open_loop", "rpc"), asked, within_s=60)
    here = load_from_here(f"http://127.0.0.1:{rpc}", Bounds(**bounds), METHODS, lambda _: None)
    for told in (there, here):
        assert (told["sent"], told["answered"], told["failures"]) == (40, 40, {})
        assert told["latency"]["p50_ms"] <= told["latency"]["max_ms"]


def test_over_a_real_ssh_the_load_runs_on_the_host_and_tells_how_far_it_is(rpc, tmp_path) -> None:
    told: list[dict[str, Any]] = []
    bounds = {"rps": 20.0, "seconds": 3.0, "warm_up_s": 0.2, "error_share": 0.01}
    asked = {"host": "127.0.0.1", "port": rpc, "methods": METHODS, "bounds": bounds}
    # A folder of its own: the path of a shared connection's socket has to be short.
    with tempfile.TemporaryDirectory(prefix="q") as folder, serve_ssh(load_settings(), tmp_path / "sshd") as server:
        target = server.target(make_settings(Path(folder)))
        seen = look_at(target)
        done = run_on_host(target, ("open_loop", "rpc"), asked, within_s=60, on_progress=told.append)
        target.disconnect()
    assert seen.threads >= 1
    assert (done["sent"], done["answered"]) == (60, 60)
    assert told
    assert told[0]["total"] == 60


def test_a_validator_that_dies_under_load_ends_it(rpc) -> None:
    """Nobody listens on the port that is asked in its place."""
    bounds = {"rps": 50.0, "seconds": 30.0, "warm_up_s": 0.0, "error_share": 0.01}
    asked = {"host": "127.0.0.1", "port": free_port(), "methods": METHODS, "bounds": bounds}
    told = run_on_host(HereTarget(), ("open_loop", "rpc"), asked, within_s=60)
    assert told["reasons"][0] == "more than 1.0% failed"
    assert told["sent"] < 1500, "it went on against nobody"


@pytest.fixture(scope="module")
def writes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_writes", WRITES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, Any]]:
    """A server in a folder of its own, on a socket of its own; what role postgres would have baked of it."""
    if not BINARIES:
        pytest.skip("this machine has no PostgreSQL")
    binaries = BINARIES[-1]
    folder = Path(tempfile.mkdtemp(prefix="qtrade-test-pg-"))
    as_account = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups", "--pdeathsig", "KILL", "--"]
    try:
        shutil.chown(folder, ACCOUNT, ACCOUNT)
        data = folder / "data"
        subprocess.run([*as_account, binaries / "initdb", "-A", "trust", "-D", data], check=True, capture_output=True)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
        command = [*as_account, binaries / "postgres", "-D", data, *options]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        os.environ["PGHOST"], os.environ["PGUSER"] = str(folder), ACCOUNT
        ready = [binaries / "pg_isready", "-q", "-d", "postgres"]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode and time.monotonic() < deadline:
            time.sleep(0.1)
        yield {"major": binaries.parent.name, "data_directory": str(data), "database": "postgres", "server": server}
        server.send_signal(signal.SIGQUIT)
        server.wait(30)
    finally:
        for name in ("PGHOST", "PGUSER"):
            os.environ.pop(name, None)
        shutil.rmtree(folder, ignore_errors=True)


def query(cluster: dict[str, Any], sql: str) -> str:
    psql = BINARIES[-1] / "psql"
    return subprocess.run(
        [psql, "-AtX", "-d", cluster["database"], "-c", sql], check=True, capture_output=True, text=True
    ).stdout.strip()


LEFT = "SELECT count(*) FROM pg_namespace WHERE nspname = 'qtrade_bench'"


def test_as_many_rows_as_were_asked_for_are_written_and_nothing_stays(cluster, writes, monkeypatch) -> None:
    told: list[str] = []
    real = writes.own_schema.__wrapped__

    def watched(psql: Any) -> Iterator[None]:
        yield from real_then_count(real(psql))

    def real_then_count(steps: Any) -> Iterator[None]:
        next(steps)
        yield
        told.append(query(cluster, "SELECT count(*) FROM qtrade_bench.writes"))
        next(steps, None)

    monkeypatch.setattr(writes, "own_schema", writes.contextlib.contextmanager(watched))
    result = writes.measure(cluster, 40, 2)
    assert result["reasons"] == []
    assert told == ["80"]
    assert 0 < result["write_p50_ms"] <= result["write_p99_ms"] <= result["write_max_ms"]
    assert query(cluster, LEFT) == "0"


def test_what_a_killed_run_left_makes_way_and_one_that_is_ended_leaves_nothing(cluster, writes, tmp_path) -> None:
    query(cluster, "CREATE SCHEMA qtrade_bench; CREATE TABLE qtrade_bench.writes (x int)")
    baked = tmp_path / "server.json"
    baked.write_text(json.dumps({name: cluster[name] for name in ("major", "data_directory", "database")}))
    program = tmp_path / "bench.py"
    program.write_text(WRITES.read_text().replace("/usr/share/qtrade/postgres/server.json", str(baked)))
    command = [sys.executable, program, "--rate", "10", "--seconds", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 60
        columns = (
            "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('qtrade_bench.writes') AND attname = 'body'"
        )
        while query(cluster, columns) != "1":
            assert time.monotonic() < deadline, "the schema was not made anew"
            time.sleep(0.1)
        again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert json.loads(again.stdout) == {"result": {"missing": "another measurement runs"}}
        child.terminate()
        child.wait(60)
    assert query(cluster, LEFT) == "0"


def test_a_full_disk_and_a_server_that_is_not_there_are_told(cluster, writes, monkeypatch) -> None:
    monkeypatch.setattr(writes, "_FREE_BYTES", 1 << 62)
    with pytest.raises(writes.RefusedError, match="MiB left"):
        writes.measure(cluster, 10, 1)
    with pytest.raises(writes.RefusedError, match="has no pgbench"):
        writes.measure({**cluster, "major": "99"}, 10, 1)
