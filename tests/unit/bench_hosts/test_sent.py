"""What is sent to a host runs in its Python alone, gives a result or an error, and believes nothing that a host says."""

import json
import sys

import pytest

from flash.bench import machine, sent
from flash.bench.machine import parse_seen
from flash.bench.on_host import look
from flash.bench.sent import run_on_host
from qtrade.errors import HostError
from tests.fakes.bench_target import HereTarget

pytestmark = pytest.mark.unit

MACHINE = {"cpu": "AMD EPYC 9254 24-Core Processor", "threads": 48, "memory_kib": 395837440, "link_mbit": 25000}


def test_a_host_is_asked_what_it_is_by_its_own_python() -> None:
    target = HereTarget()
    seen = machine.look_at(target)
    assert seen.threads >= 1
    assert seen.memory_kib > 0
    assert seen.hardware_class
    (command,) = target.commands
    assert command.startswith("timeout -k 5 60 python3 -IBc ")
    assert "flash" not in sys.modules or hasattr(sys.modules["flash"], "__path__")


def test_modules_import_each_other_there(tmp_path, monkeypatch) -> None:
    (tmp_path / "one.py").write_text("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 4\n")
    (tmp_path / "two.py").write_text(
        "from flash.bench.on_host.one import A\nimport json\n"
        "def main(asked):\n"
        "    print(json.dumps({'progress': {'left_s': 1}}))\n"
        "    print('a word of something else'); print('[1]')\n"
        "    print(json.dumps({'result': {'sum': A().x + asked['y']}}))\n"
    )
    monkeypatch.setattr(sent, "_FOLDER", tmp_path)
    told: list[dict] = []
    found = run_on_host(HereTarget(), ("one", "two"), {"y": 3}, within_s=30, on_progress=told.append)
    assert (found, told) == ({"sum": 7}, [{"left_s": 1}])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise SystemExit(3)", "gave no result (code 3)"),
        ("print('no json')", "gave no result (code 0)"),
        ("print('{\"result\": 5}')", "gave no result (code 0)"),
        ("print('[' * 100000)", "gave no result (code 0)"),
        ("import time; time.sleep(60)", "gave no result (code 124)"),
    ],
)
def test_no_result_is_an_error(tmp_path, monkeypatch, body, says) -> None:
    (tmp_path / "one.py").write_text(f"def main(asked):\n    {body}\n")
    monkeypatch.setattr(sent, "_FOLDER", tmp_path)
    with pytest.raises(HostError) as caught:
        run_on_host(HereTarget(), ("one",), {}, within_s=3)
    assert says in caught.value.brief


@pytest.mark.parametrize(
    ("memory_gib", "sold"), [(1.9, 2), (7.6, 8), (15.3, 16), (31.2, 32), (125.6, 128), (377.5, 384), (503.7, 512)]
)
def test_machines_that_are_sold_alike_are_of_one_class(memory_gib, sold) -> None:
    seen = parse_seen("a", {"machine": {**MACHINE, "memory_kib": memory_gib * (1 << 20)}, "rpc": None, "votes": None})
    assert seen.hardware_class == f"AMD EPYC 9254 24-Core, 48 threads, {sold} GiB, 25 Gbit/s"


def test_a_class_is_one_line_of_plain_text() -> None:
    odd = {**MACHINE, "cpu": "Intel(R) Xeon(R)\n\x1b[31m Gold, 6526Y CPU @ 2.80GHz", "link_mbit": -1}
    seen = parse_seen("a", {"machine": odd, "rpc": None, "votes": None})
    assert seen.hardware_class.startswith("Intel Xeon [31m Gold 6526Y, 48 threads")
    assert seen.hardware_class.endswith("unknown link")


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"machine": None, "rpc": None, "votes": None},
        {"machine": {**MACHINE, "threads": "many"}, "rpc": None, "votes": None},
        {"machine": {**MACHINE, "memory_kib": float("inf")}, "rpc": None, "votes": None},
        {"machine": MACHINE, "rpc": {"port": "x", "bind": ""}, "votes": None},
        {"machine": MACHINE, "rpc": None, "votes": [1]},
    ],
)
def test_a_host_that_tells_nonsense_is_an_error(found) -> None:
    with pytest.raises(HostError, match="does not tell what machine it is"):
        parse_seen("a", found)


def test_the_machine_is_read_from_the_kernel(tmp_path) -> None:
    files = {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\nprocessor\t: 1\nmodel name\t: Some CPU\n",
        "proc/meminfo": "MemFree: 1 kB\nMemTotal:       2048 kB\n",
        "sys/class/net/eth0/speed": "10000\n",
        "sys/class/net/eth1/speed": "-1\n",
        "sys/class/net/lo/speed": "down\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert look.read_machine(tmp_path) == {"cpu": "Some CPU", "threads": 2, "memory_kib": 2048, "link_mbit": 10000}


def test_where_the_rpc_listens_is_read_from_image_and_config(tmp_path) -> None:
    assert look.read_rpc(tmp_path, tmp_path / "none") is None
    (tmp_path / "interfaces.d").mkdir()
    interfaces = [{"name": "gossip", "port": 8001}, {"name": "json-rpc", "port": 8899}]
    (tmp_path / "interfaces.d/agave.json").write_text(json.dumps({"interfaces": interfaces}))
    assert look.read_rpc(tmp_path, tmp_path / "none") == {"port": 8899, "bind": "127.0.0.1"}
    (tmp_path / "ready.json").write_text('{"rpc_bind": "0.0.0.0"}')
    assert look.read_rpc(tmp_path, tmp_path / "ready.json") == {"port": 8899, "bind": "0.0.0.0"}
