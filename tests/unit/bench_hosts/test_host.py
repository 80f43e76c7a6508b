"""`qtrade bench host`: all parts in one record, each with figures or with the reason why there are none."""

import pytest

from flash.bench import host, load
from flash.bench.figures import Figures
from flash.bench.guard import Load
from flash.bench.machine import Seen
from qtrade.errors import BadInput, Refused
from qtrade.store import open_store
from qtrade.trust.keyring import ensure_keyring
from qtrade.trust.statements import verify_statements
from tests.fakes.bench_target import HereTarget
from tests.fakes.cli import Cli
from tests.fakes.examples import make_settings
from tests.fakes.projects import publish_image, write_project
from tests.fakes.reporter import RecordingReporter

pytestmark = pytest.mark.unit

PROBED = {"figures": {"memory_copy_gib_s": 9.5, "network_fetch_mbit_s": 900.0}, "missing": {"disk": "no folder"}}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    made = make_settings(tmp_path)
    write_project(made)
    image = publish_image(made)
    seen = Seen(cpu="EPYC", threads=8, memory_kib=8 << 20, link_mbit=1000, stake=0)
    monkeypatch.setattr(load.AgentLink, "status", lambda _: {"version": "0.1.0", "image": image.id})
    monkeypatch.setattr(load, "target_for", lambda *_: HereTarget())
    monkeypatch.setattr(load, "operator_target", lambda *_: HereTarget())
    monkeypatch.setattr(load, "look_at", lambda _: seen)
    monkeypatch.setattr(host, "run_on_host", lambda *_, **__: PROBED)
    for name in ("PROJECT", "STATE_DIR", "STORE"):
        monkeypatch.setenv(f"QTRADE_{name}", str(getattr(made, name.lower())))
    return made


def records(settings):
    store, trust = open_store(settings), ensure_keyring(settings).trust
    image = store.read("demo", "0.1.0").document()["id"]
    return verify_statements(image, store.attestations(image), trust).benches


def test_all_parts_are_in_one_record(settings, monkeypatch) -> None:
    odd = Figures({"bench.rpc_p50_ms": 1.0}, reasons=("rpc: 2 of 9 failed",))
    monkeypatch.setitem(host.LOADS, Load.RPC, lambda *_: odd)
    said = host.bench_host(settings, "rpc-1", RecordingReporter())
    assert records(settings) == (said,)
    assert said.metrics == {
        "bench.memory_copy_gib_s": 9.5, "bench.network_fetch_mbit_s": 900.0, "bench.rpc_p50_ms": 1.0,
    }  # fmt: skip
    assert said.missing["bench.disk_rand_read_iops"] == "no folder"
    assert said.missing["bench.stream_delay_p99_ms"] == "the image has no geyser"
    assert said.missing["bench.postgres_write_p99_ms"] == "the image has no postgres"
    assert (said.kind, said.passed, said.reasons) == ("host", True, ("rpc: 2 of 9 failed",))


def test_it_is_refused_where_load_is(settings) -> None:
    write_project(settings, environment={"bench": {"allow_load": False}})
    with pytest.raises(Refused, match="allows no load"):
        host.bench_host(settings, "rpc-1", RecordingReporter())
    write_project(settings, host={"bench": {"directory": "/mnt/accounts"}})
    with pytest.raises(BadInput, match="never written to"):
        host.bench_host(settings, "rpc-1", RecordingReporter())
    assert records(settings) == ()


def test_two_releases_are_compared_at_the_command_line(settings, monkeypatch, capsys) -> None:
    cli = Cli(monkeypatch, capsys)
    assert cli("bench", "host", "--host", "rpc-1")[0] == 0
    text = (settings.project / "manifests/environments/development.yaml").read_text()
    (settings.project / "manifests/environments/staging.yaml").write_text(text.replace("development", "staging"))
    found = cli.json("bench", "compare", "0.1.0", "0.1.0", "--recipe", "demo")
    assert found["worse"] == 0
    assert {row["change"] for row in found["rows"]} == {"same", "unknown"}
    again = publish_image(settings, version="0.2.0", cmdline="debug")
    monkeypatch.setattr(load.AgentLink, "status", lambda _: {"version": "0.2.0", "image": again.id})
    slower = {**PROBED, "figures": {**PROBED["figures"], "memory_copy_gib_s": 5.0}}
    monkeypatch.setattr(host, "run_on_host", lambda *_, **__: slower)
    assert cli("bench", "host", "--host", "rpc-1")[0] == 0
    code, out, err = cli("bench", "compare", "0.1.0", "0.2.0", "--recipe", "demo")
    assert code == 9
    assert "- bench.memory_copy_gib_s" in out
    assert "9.5 -> 5  47.4% worse (1 and 1 record)" in out
    assert "demo 0.2.0 is worse than 0.1.0: bench.memory_copy_gib_s" in err
    code, _, err = cli("bench", "compare", "0.1.0", "0.2.0", "--recipe", "demo", "--class", "none")
    assert (code, "classes that were measured: EPYC, 8 threads" in err) == (4, True)
