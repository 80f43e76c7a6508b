"""What programs on a host tell is read, or missing with its reason: no answer, odd answers, programs that are not there."""

import json
from pathlib import Path

import pytest

from flash.bench.host import check_directory, forbidden_mounts, read_probe
from flash.bench.on_host import probe
from flash.bench.on_host.probe import NotMeasuredError, check_folder, read_fio
from flash.bench.programs import POSTGRES, STREAM, run_program
from qtrade.errors import BadInput
from tests.fakes.bench_target import HereTarget
from tests.fakes.examples import make_host

pytestmark = pytest.mark.unit

DELAYS = {f"delay_{name}_ms": 2.5 for name in ("p50", "p90", "p99", "max")}
TOLD = {**DELAYS, "slots_per_s": 2.5, "slot_gaps": 0, "reasons": []}
MOUNTS = """\
overlay / overlay rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/nvme1n1 /mnt/data ext4 rw 0 0
/dev/nvme2n1 /mnt/ledger ext4 rw 0 0
/dev/nvme2n1 /mnt/more ext4 rw 0 0
"""


def run(code: int, out: str, err: str = ""):
    target = HereTarget(answers={"measure.py": (code, out, err)})
    found = run_program(target, STREAM, {"streams": 4, "seconds": 30}, seconds=30)
    return found, target


def test_a_program_is_run_as_its_account_within_time() -> None:
    found, target = run(0, json.dumps({"result": TOLD}))
    assert found.metrics == {f"bench.stream_{name}": TOLD[name] for name in STREAM.figures}
    assert (found.missing, found.reasons) == ({}, ())
    (command,) = target.commands
    assert command.startswith(
        "test -x /usr/lib/qtrade/geyser/measure.py || exit 77; exec timeout -k 10 120 sudo -n -u sol "
    )
    assert command.endswith("measure.py --streams 4 --seconds 30")


def test_an_image_without_the_program_is_not_measured_and_does_not_fail() -> None:
    found, _ = run(77, "")
    assert set(found.missing) == {f"bench.stream_{name}" for name in STREAM.figures}
    assert "flash a newer one" in next(iter(found.missing.values()))
    assert found.reasons == ()


@pytest.mark.parametrize("out", ["", "no json", "[]", '{"result": 4}', '{"other": {}}', "[" * 100000])
def test_no_answer_fails_and_is_no_zero(out) -> None:
    found, _ = run(1, out, "sudo: a password is required")
    assert found.metrics == {}
    assert found.reasons == ("geyser: no result: sudo: a password is required",)


@pytest.mark.parametrize("value", ["fast", None, True, [1], float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_missing(value) -> None:
    found, _ = run(0, json.dumps({"result": {**TOLD, "slots_per_s": value}}))
    assert found.missing == {"bench.stream_slots_per_s": "not told"}


def test_a_program_that_tells_no_verdict_did_not_pass() -> None:
    found, _ = run(0, json.dumps({"result": DELAYS}))
    assert found.reasons == ("geyser: it does not tell whether it passed",)
    target = HereTarget(answers={"bench.py": (0, json.dumps({"result": {"missing": "the image has no pgbench"}}), "")})
    assert set(run_program(target, POSTGRES, {}, seconds=1).missing.values()) == {"the image has no pgbench"}


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("/mnt/ledger", "is on /mnt/ledger, which is never written to"),
        ("/mnt/ledger/deep", "is on /mnt/ledger"),
        ("/mnt/more", "is on /dev/nvme2n1, which also holds"),
        ("/tmp", "is on a tmpfs"),
        ("/srv", "is on a overlay"),
        ("/nowhere", "is no folder"),
    ],
)
def test_a_folder_of_the_ledgers_disk_or_of_none_is_left_alone(monkeypatch, folder, says) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda self: str(self) != "/nowhere")
    with pytest.raises(NotMeasuredError, match=says):
        check_folder(folder, ["/mnt/ledger"], MOUNTS)
    check_folder("/mnt/data/bench", ["/mnt/ledger"], MOUNTS)


def test_a_link_to_the_ledger_is_seen_through(tmp_path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ledger")
    with pytest.raises(NotMeasuredError, match="never written to"):
        check_folder(str(tmp_path / "link"), [str(tmp_path / "ledger")], MOUNTS)


def test_the_manifest_cannot_name_the_ledger_either() -> None:
    disks = [{"wwid": "eui.01", "mount": "/srv/ledger"}, {"wwid": "eui.02", "mount": "/srv/data"}]
    host = make_host(data_disks=disks, bench={"directory": "/srv/ledger/bench"})
    assert forbidden_mounts(host) == ["/mnt/accounts", "/mnt/ledger", "/mnt/snapshots", "/srv/ledger"]
    with pytest.raises(BadInput, match="never written to"):
        check_directory(host)
    check_directory(make_host(data_disks=disks, bench={"directory": "/srv/data/bench"}))
    check_directory(make_host())


def test_fio_is_read() -> None:
    job = {"bw_bytes": 1 << 30, "iops": 262144.0, "clat_ns": {"percentile": {"99.000000": 250_000}}}
    text = "fio: a warning\n" + json.dumps({"jobs": [{"read": job, "write": {}}]})
    assert read_fio("rand_read", text) == {
        "disk_rand_read_mib_s": 1024, "disk_rand_read_iops": 262144, "disk_rand_read_p99_ms": 0.25,
    }  # fmt: skip
    for bad in ("", "{}", '{"jobs": []}', '{"jobs": [{"read": {"bw_bytes": "x"}}]}'):
        with pytest.raises(NotMeasuredError, match="another form"):
            read_fio("rand_read", bad)


def test_without_its_programs_a_host_says_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr(probe.shutil, "which", lambda _: None)
    monkeypatch.setattr(probe, "MEMORY_BYTES", 1 << 20)
    probe.main({
        "disk": {"folder": "/srv", "size_mib": 16, "forbidden": []},
        "network": {"peer": "192.0.2.1", "url": None},
        "missing": {},
    })  # fmt: skip
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["progress"]["done"] for one in lines[:-1]] == ["memory", "disk", "network"]
    found = read_probe(lines[-1]["result"])
    assert set(found.metrics) == {"bench.memory_copy_gib_s"}
    assert found.metrics["bench.memory_copy_gib_s"] > 0
    assert "no fio" in found.missing["bench.disk_rand_read_iops"]
    assert "no iperf3" in found.missing["bench.network_mbit_s"]


def test_parts_that_say_nothing_are_missing() -> None:
    for told in ({}, {"figures": 4, "missing": []}, {"figures": {"memory_copy_gib_s": "x"}}):
        found = read_probe(told)
        assert found.metrics == {}
        assert found.missing["bench.memory_copy_gib_s"] == "not told"
