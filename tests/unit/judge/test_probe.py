"""What the probe reads on a host, from the words of real programs and files; and that a host's own old Python can run it."""

import ast
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flash.judge import probe
from flash.judge.answers import parse_answer

pytestmark = pytest.mark.unit
SOURCE = Path(probe.__file__)
DIGEST = "a" * 64
SPOKEN = {
    "systemctl list-units": "x.service loaded failed failed X\n● y.mount loaded failed failed Y\n".replace("● ", ""),
    "systemctl show": "NRestarts=0\n\nNRestarts=3\n\nNRestarts=2\n",
    "journalctl --dmesg": "Linux version 6.12\nmce: [Hardware Error]: Machine check events logged\n"
    "nvme nvme0: I/O 12 (I/O Cmd) QID 3 timeout, aborting\n"
    "oom-kill:constraint=CONSTRAINT_NONE\nOut of memory: Killed process 77 (agave)\nnvme nvme0: 8/0/0 default/read/poll queues\n",
    "qtrade-agave-ready --wait": '{"ready": false, "reasons": ["42 slots behind"], "health": "ok", "slot": 90, "lag": 42}',
    "sudo -n": '{"ok": true, "slots": [7, 8, 9], "status": null, "message": "", "has_token": true}',
    "psql -XAtq": "12345\n",
}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    files = {
        "run/qtrade/boot": f"image={'b' * 64}\nstate=persistent\nverified=verity\n", "etc/hostname": "rpc-1\n",
        "proc/self/mountinfo": "30 1 7:0 / /run/qtrade/layers/10-app ro - erofs /dev/loop3 ro\n"
        f"31 1 0:9 / /run/qtrade/layers/00-base ro - erofs /run/qtrade/system/layers/{DIGEST}.erofs ro\n"
        "32 1 8:1 / /mnt/ledger rw - ext4 /dev/sda1 rw\n",
        "sys/block/loop3/loop/backing_file": f"/run/qtrade/system/layers/{'c' * 64}.erofs\n",
        "proc/self/mounts": "/dev/sda1 /mnt/ledger ext4 rw 0 0\noverlay / overlay rw 0 0\n",
        "proc/cpuinfo": "cpu MHz\t\t: 3400.5\ncpu MHz\t\t: 800.0\ncpu MHz\t\t: 3500.0\n",
        "sys/class/net/eth0/speed": "25000\n", "sys/class/net/lo/speed": "", "sys/class/net/eth0/device/vendor": "",
        "sys/class/net/eth0/statistics/rx_dropped": "5\n", "sys/class/net/eth0/statistics/tx_dropped": "2\n",
        "sys/class/net/veth1/statistics/rx_dropped": "999\n",
        "usr/share/qtrade/interfaces.d/postgres.json": json.dumps({"interfaces": [{"name": "postgres", "port": 5433}]}),
    }  # fmt: skip
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(probe, "ROOT", tmp_path)
    monkeypatch.setattr(probe, "run", lambda *command, codes=(0,): SPOKEN[" ".join(command[:2])])
    return tmp_path


def test_parts_are_read_from_the_words_of_programs_and_files(root) -> None:
    told = probe.observe()
    parts = told["parts"]
    assert parts["status"] == {"host": "rpc-1", "image": "b" * 64, "state": "persistent"}
    assert parts["layers"] == [DIGEST, "c" * 64]
    assert parts["units"] == ["x.service", "y.mount"]
    assert (parts["restarts"], parts["link_mbit"], parts["drops"], parts["cpu_mhz"]) == (5, 25000, 7, 3400.5)
    assert parts["clock"].keys() == {"error_s", "synchronised"}
    assert told["began"] <= told["ended"]
    assert parts["mounts"] == ["/", "/mnt/ledger"]
    assert parts["kernel"] == {"faults": 3, "last": "Out of memory: Killed process 77 (agave)"}
    assert parts["ready"] == {"health": "ok", "slot": 90, "lag": 42, "reasons": ["42 slots behind"]}
    assert parts["geyser"] == {"slot": 9, "said": ""}
    assert parts["postgres_rows"] == 12345
    # What the host does not have is named, and hides nothing else.
    assert told["errors"].keys() == {"rpc_ms", "telemetry"}
    assert "datadog.json" in told["errors"]["telemetry"]
    assert parse_answer(json.dumps(told), "rpc-1").parts.cpu_mhz == 3400.5


@pytest.mark.parametrize(
    "line",
    [
        "mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 5",
        "nvme nvme1: controller is down; will reset: CSTS=0x3",
        "nvme nvme1: Abort status: 0x0",
        "nvme1n1: I/O Error",
        "Memory cgroup out of memory: Killed process 9 (x)",
    ],
)
def test_faults_are_known_by_the_kernels_words(root, monkeypatch, line) -> None:
    monkeypatch.setitem(SPOKEN, "journalctl --dmesg", f"booted\n{line}\n")
    assert probe.read_kernel() == {"faults": 1, "last": line}


class Kernel:
    """An adjtimex that tells what a time daemon would have told it."""

    def __init__(self, status: int, error_us: int) -> None:
        self.status, self.error_us = status, error_us

    def adjtimex(self, timex) -> int:
        timex[4], timex[5] = self.error_us, self.status
        return 0


@pytest.mark.parametrize(("status", "synchronised"), [(0x2001, True), (0x2041, False), (0x40, False), (0, True)])
def test_the_clock_is_what_the_kernel_was_told(monkeypatch, status, synchronised) -> None:
    monkeypatch.setattr(probe.ctypes, "CDLL", lambda *_, **__: Kernel(status, 1500))
    assert probe.read_clock() == {"synchronised": synchronised, "error_s": 0.0015}


def test_an_empty_log_of_the_kernel_is_no_clean_one(root, monkeypatch) -> None:
    monkeypatch.setitem(SPOKEN, "journalctl --dmesg", "")
    told = probe.observe()
    assert (told["parts"]["kernel"], told["errors"]["kernel"]) == (None, "the kernel's log cannot be read")


class Rpc(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    calls = 0

    def do_POST(self) -> None:
        Rpc.calls += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"jsonrpc": "2.0", "id": 1, "result": 5}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_calls_are_bounded_and_timed_over_one_connection(root, monkeypatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Rpc) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = root / "usr/share/qtrade/interfaces.d/agave.json"
        path.write_text(json.dumps({"interfaces": [{"name": "json-rpc", "port": server.server_address[1]}]}))
        monkeypatch.setattr(probe, "RPC_S", 60)
        monkeypatch.setattr(probe, "RPC_CALLS", 20)
        told = probe.read_latencies()
        server.shutdown()
    assert (told["calls"], Rpc.calls) == (20, 20)
    assert 0 < told["p50"] <= told["p99"]


def test_quantiles_are_those_of_the_judge() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [probe.quantile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    with pytest.raises(RuntimeError):
        probe.quantile([], 0.5)


def test_it_runs_as_it_is_sent_and_answers_whatever_the_machine_lacks() -> None:
    done = subprocess.run(
        [sys.executable, "-IB", "-"], input=SOURCE.read_bytes(), capture_output=True, check=True, timeout=120
    )
    answer = parse_answer(done.stdout.decode(), "rpc-1")
    assert answer.parts.mounts
    # No host of ours: it says so, part by part.
    assert answer.parts.status is None
    assert "run/qtrade/boot" in answer.errors["status"]


def test_its_source_is_python_39_and_imports_the_standard_library_only() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= sys.stdlib_module_names
        elif isinstance(node, ast.ImportFrom):
            assert str(node.module).partition(".")[0] in sys.stdlib_module_names
