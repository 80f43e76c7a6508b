"""What host_metrics.py reads, and how it sends it."""

import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.unit
PROGRAM = Path(__file__).resolve().parents[3] / "ansible/roles/datadog/files/usr/lib/qtrade/datadog/host_metrics.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("host_metrics", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules["host_metrics"] = module
    spec.loader.exec_module(module)
    return module


METRICS = load()


def lines(metrics) -> list[str]:
    return [metric.line() for metric in metrics]


def test_failed_units_are_counted_and_named() -> None:
    listing = "foo.service loaded failed failed Foo\nbar.timer not-found failed failed bar\n"
    assert lines(METRICS.parse_failed(listing)) == [
        "qtrade.units.failed:2|g",
        "qtrade.unit.failed:1|g|#unit:foo.service",
        "qtrade.unit.failed:1|g|#unit:bar.timer",
    ]
    assert lines(METRICS.parse_failed("")) == ["qtrade.units.failed:0|g"]


def test_units_tell_their_state_and_restarts() -> None:
    shown = "NRestarts=3\nId=a.service\nActiveState=active\n\nId=b.timer\nActiveState=inactive\n"
    assert lines(METRICS.parse_units(shown)) == [
        "qtrade.unit.active:1|g|#unit:a.service",
        "qtrade.unit.restarts:3|g|#unit:a.service",
        "qtrade.unit.active:0|g|#unit:b.timer",
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("A9FEA97B,169.254.169.123,4,1763928000.1,-0.000012,0.1,0.2,1.0,0.0,0.1,0.2,0.3,16.4,Normal\n", (1.2e-05, 1)),
        ("7F7F0101,,10,1763928000.1,0.25,0.1,0.2,1.0,0.0,0.1,0.2,0.3,16.4,Not synchronised\n", (0.25, 0)),
    ],
)
def test_the_clock(row, expected) -> None:
    offset, synchronised = METRICS.parse_tracking(row)
    assert (offset.value, synchronised.value) == expected


@pytest.mark.parametrize(("state", "volatile"), [("persistent", 0), ("volatile", 1)])
def test_boot_facts_and_generation(tmp_path, state, volatile) -> None:
    (tmp_path / "boot").write_text(f"image={'ab' * 32}\nverified=verity\nstate={state}\n")
    (tmp_path / "state/config").mkdir(parents=True)
    (tmp_path / "state/config/current").symlink_to("000012")
    assert lines(METRICS.read_boot(tmp_path)) == [
        f"qtrade.boot.volatile_state:{volatile}|g",
        "qtrade.boot.verity:1|g",
        "qtrade.config.generation:12|g|#image:abababababab",
    ]


def test_another_image_than_the_default_is_seen() -> None:
    status = {"image": "a" * 64, "default": "b" * 64, "version": "1.2.0", "failed_boots": 3, "upper_entries": 0}
    tags = "|#image:aaaaaaaaaaaa,version:1.2.0"
    assert lines(METRICS.parse_status(json.dumps(status))) == [
        f"qtrade.boot.on_default:0|g{tags}",
        f"qtrade.boot.failed_boots:3|g{tags}",
        f"qtrade.boot.upper_entries:0|g{tags}",
    ]
    with pytest.raises(ValueError, match="lost"):
        list(METRICS.parse_status(json.dumps({**status, "default": "", "boot_error": "lost"})))


def test_a_validator_that_is_not_ready_still_tells_its_slot(tmp_path) -> None:
    verdict = {
        "ready": False,
        "initialised": True,
        "health": "behind",
        "slot": 412345678,
        "reference_slot": None,
        "lag": None,
    }
    program = tmp_path / "ready.py"
    program.write_text(f"import sys; print('''{json.dumps(verdict)}'''); sys.exit(1)")
    assert lines(METRICS.read_ready(program)) == [
        "qtrade.validator.ready:0|g",
        "qtrade.validator.initialised:1|g",
        "qtrade.validator.healthy:0|g",
        "qtrade.validator.slot:412345678|g",
    ]
    assert lines(METRICS.read_ready(tmp_path / "none.py")) == []
    program.write_text("import sys; sys.exit(2)")
    with pytest.raises(subprocess.CalledProcessError):
        list(METRICS.read_ready(program))


def test_the_newest_good_backup_counts(tmp_path) -> None:
    record, repository = tmp_path / "backups.json", tmp_path / "pgbackrest.conf"
    assert lines(METRICS.read_backups(record, repository, 1000.0, 50.0)) == []
    repository.touch()
    assert lines(METRICS.read_backups(record, repository, 1000.0, 50.0)) == [], "an empty one means none"
    repository.write_text("[global]\n")
    assert lines(METRICS.read_backups(record, repository, 1000.0, 50.0)) == ["qtrade.postgres.backup_age_s:50|g"]
    backups = [{"timestamp": {"start": 80, "stop": 100}}, {"timestamp": {"start": 800, "stop": 900}, "error": False}]
    backups.append({"timestamp": {"start": 950, "stop": 990}, "error": True})
    record.write_text(json.dumps([{"name": "main", "backup": backups}]))
    assert lines(METRICS.read_backups(record, repository, 1000.0, 50.0)) == ["qtrade.postgres.backup_age_s:100|g"]


def test_the_health_log_of_an_nvme() -> None:
    log = bytearray(512)
    log[0], log[3], log[4], log[5] = 2, 95, 10, 87
    log[160:176] = (1 << 40).to_bytes(16, "little")
    assert lines(METRICS.parse_health_log(bytes(log), "nvme0")) == [
        "qtrade.nvme.critical_warning:2|g|#device:nvme0",
        "qtrade.nvme.spare_percent:95|g|#device:nvme0",
        "qtrade.nvme.spare_threshold_percent:10|g|#device:nvme0",
        "qtrade.nvme.used_percent:87|g|#device:nvme0",
        "qtrade.nvme.media_errors:1099511627776|g|#device:nvme0",
    ]


def test_the_command_has_the_kernels_layout() -> None:
    command = METRICS.pack_health_command(0x1122334455667788)
    assert len(command) == 72 == METRICS.NVME_ADMIN_COMMAND >> 16 & 0x3FFF
    # opcode 2 (get log page), all namespaces, where to, 512 bytes, dword 10: 127 + 1 dwords of page 2, five seconds
    assert command[0] == 2
    assert command[4:8] == b"\xff" * 4
    assert int.from_bytes(command[24:32], "little") == 0x1122334455667788
    assert int.from_bytes(command[36:40], "little") == 512
    assert int.from_bytes(command[40:44], "little") == 0x007F0002
    assert int.from_bytes(command[64:68], "little") == 5000


def test_only_controllers_are_asked(tmp_path, monkeypatch) -> None:
    for name in ("nvme1", "nvme0", "nvme0n1", "nvme0n1p1", "nvme-fabrics"):
        (tmp_path / name).touch()
    asked = []
    monkeypatch.setattr(METRICS, "read_health_log", lambda device: asked.append(device.name) or bytes(512))
    list(METRICS.read_nvme(tmp_path))
    assert asked == ["nvme0", "nvme1"]


def test_a_source_that_fails_is_a_metric_and_stops_no_other(capsys) -> None:
    def broken():
        yield METRICS.Metric("half", 1)
        raise OSError("gone")

    found = METRICS.collect({"bad": broken, "good": lambda: [METRICS.Metric("whole", 1)]})
    assert lines(found) == [
        "qtrade.source.failed:1|g|#source:bad",
        "qtrade.whole:1|g",
        "qtrade.source.failed:0|g|#source:good",
    ]
    assert "bad: OSError('gone')" in capsys.readouterr().err


def test_the_dear_sources_are_read_every_hour_and_sent_every_minute(tmp_path) -> None:
    kept, reads = tmp_path / "slow", []

    def read():
        reads.append(1)
        return [METRICS.Metric("wear", len(reads))]

    sources = {"dear": read}
    first = ["qtrade.wear:1|g", "qtrade.source.failed:0|g|#source:dear"]
    assert METRICS.collect_slow(sources, kept, 0.0) == first
    written = kept.stat().st_mtime
    assert METRICS.collect_slow(sources, kept, written + 3599) == first
    assert len(reads) == 1
    assert METRICS.collect_slow(sources, kept, written + 3600)[0] == "qtrade.wear:2|g"


def test_datagrams_hold_whole_lines_and_arrive() -> None:
    sent = lines(METRICS.Metric("unit.failed", 1, {"unit": f"unit-{number:03}.service"}) for number in range(100))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(5)
        METRICS.send(sent, agent.getsockname())
        got: list[str] = []
        while len(got) < len(sent):
            datagram = agent.recv(65536)
            assert len(datagram) <= METRICS.DATAGRAM_BYTES
            got += datagram.decode().split("\n")
    assert got == sent


def test_nobody_listening_is_no_fault() -> None:
    METRICS.send(["qtrade.x:1|g"], ("127.0.0.1", 9))
