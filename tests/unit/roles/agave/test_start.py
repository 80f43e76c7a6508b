"""What start.py adds to the baked flags."""

import json
import os
import subprocess
import sys

import pytest

from tests.unit.roles.agave.conftest import XDP, install_start

pytestmark = pytest.mark.unit

HASH = "9rBdEy8zw5RVqGX6nYcXWJDPMMb2AfTpRWAAQJD8Lc1Q"
ONLINE = {
    "entrypoints": ["e:8001"],
    "known_validators": ["k"],
    "expected_genesis_hash": "g",
    "snapshot_max_age_s": 1800,
}


def put(folder, name, at):
    path = folder / name
    path.write_bytes(b"")
    os.utime(path, (at, at))


def test_no_snapshot_is_downloaded_over_a_fresh_one(start, tmp_path) -> None:
    put(tmp_path, f"snapshot-100-{HASH}.tar.zst", 1000)
    put(tmp_path, f"incremental-snapshot-100-300-{HASH}.tar.zst", 2000)
    flags, reason = start.fetch_flags(ONLINE, start.newest_snapshot(tmp_path), 2600)
    assert flags == ["--no-snapshot-fetch"]
    assert "slot 300 is 600 s old" in reason


@pytest.mark.parametrize("now", [1000 + 1801, 999])
def test_an_old_snapshot_or_one_of_the_future_does_not_hold_a_download_back(now, start, tmp_path) -> None:
    put(tmp_path, f"snapshot-100-{HASH}.tar.zst", 1000)
    assert start.fetch_flags(ONLINE, start.newest_snapshot(tmp_path), now)[0] == []


@pytest.mark.parametrize(
    "name",
    [
        f"incremental-snapshot-90-300-{HASH}.tar.zst",  # its full one is gone
        f"tmp-snapshot-archive-abc-snapshot-400-{HASH}.tar.zst",
        "snapshot-500-0OIl.tar.zst",
        f"snapshot-500-{HASH}.tar.zst.part.1",
    ],
)
def test_what_cannot_be_loaded_does_not_count(name, start, tmp_path) -> None:
    put(tmp_path, name, 2000)
    assert start.newest_snapshot(tmp_path) is None
    put(tmp_path, f"snapshot-100-{HASH}.tar.zst", 1000)
    assert start.newest_snapshot(tmp_path) == (100, 1000.0)


def test_downloaded_snapshots_count(start, tmp_path) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    put(remote, f"snapshot-100-{HASH}.tar.zst", 1000)
    assert start.newest_snapshot(tmp_path) == (100, 1000.0)
    # What the validator makes on top of a downloaded one is its own.
    put(tmp_path, f"incremental-snapshot-100-300-{HASH}.tar.zst", 2000)
    assert start.newest_snapshot(tmp_path) == (300, 2000.0)
    put(remote, f"incremental-snapshot-100-400-{HASH}.tar.zst", 2500)
    assert start.newest_snapshot(tmp_path) == (400, 2500.0)
    put(tmp_path, f"snapshot-500-{HASH}.tar.zst", 3000)
    assert start.newest_snapshot(tmp_path) == (500, 3000.0)


def test_without_a_folder_or_entrypoints_nothing_is_decided(start, tmp_path) -> None:
    assert start.newest_snapshot(tmp_path / "none") is None
    assert start.fetch_flags({"snapshot_max_age_s": 1800}, (1, 0.0), 0)[0] == []
    assert start.fetch_flags(ONLINE, None, 0)[0] == []


@pytest.mark.parametrize("missing", ["known_validators", "expected_genesis_hash"])
def test_snapshots_of_anybody_are_refused(missing, start) -> None:
    assert start.trust_flags(ONLINE) == ["--only-known-rpc"]
    assert start.trust_flags({}) == []
    with pytest.raises(start.ConfigError, match=f"agave_{missing} is not"):
        start.trust_flags({**ONLINE, missing: []})


def test_xdp_flags_are_those_of_the_version(start) -> None:
    on = {"xdp": True, "xdp_interface": "eno1", "xdp_cpu_cores": "2", "xdp_zero_copy": True}
    assert start.xdp_flags(XDP, on, []) == ["--xdp-interface", "eno1", "--xdp-cpu-cores", "2", "--xdp-zero-copy"]
    assert start.xdp_flags(XDP, {"xdp": True}, []) == []
    assert start.xdp_flags(XDP, {**on, "xdp": False}, []) == ["--no-xdp"]


def test_xdp_that_cannot_work_is_refused(start) -> None:
    with pytest.raises(start.ConfigError, match="needs agave_xdp_cpu_cores"):
        start.xdp_flags({**XDP, "needs_cores": True}, {"xdp": True}, [])
    with pytest.raises(start.ConfigError, match="private addresses"):
        start.xdp_flags(XDP, {"xdp": True}, ["--allow-private-addr"])


def test_the_plugin_of_the_image_is_loaded_from_where_its_role_says(start, tmp_path) -> None:
    config = tmp_path / "config.json"
    assert start.plugin_flags({}, config) == []
    config.write_text("{}")
    assert start.plugin_flags({}, config) == ["--geyser-plugin-config", str(config)]
    assert start.plugin_flags({start.PLUGIN_VARIABLE: "/run/x.json"}, config) == [
        "--geyser-plugin-config",
        "/run/x.json",
    ]


def run_start(tmp_path, config, *, show=("--show",)):
    """Run the program with its paths in a folder."""
    return subprocess.run(
        [
            sys.executable,
            *install_start(tmp_path, config),
            *show,
            "--",
            "--ledger",
            tmp_path / "ledger",
            "--snapshots",
            "/nowhere",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_show_prints_and_starts_nothing(tmp_path) -> None:
    done = run_start(tmp_path, {"xdp": False})
    assert json.loads(done.stdout)["command"][:2] == ["/usr/bin/setpriv", "--ambient-caps=-all"]
    assert json.loads(run_start(tmp_path, {"xdp": True}).stdout)["command"][0] == str(tmp_path / "validator")


def test_the_program_becomes_the_validator(tmp_path) -> None:
    done = run_start(tmp_path, {**ONLINE, "xdp": False}, show=())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "--ledger",
        str(tmp_path / "ledger"),
        "--snapshots",
        "/nowhere",
        "--entrypoint",
        "e:8001",
        "--only-known-rpc",
        "--no-xdp",
    ]
    assert "no snapshot here" in done.stderr


def test_without_a_config_the_ledger_is_limited(start, tmp_path) -> None:
    assert start.read_config(tmp_path / "none") == {"limit_ledger_size": 200_000_000, "snapshot_max_age_s": 1800}


@pytest.mark.parametrize("content", ["{", None])
def test_a_config_that_cannot_be_read_is_no_missing_one(content, start, tmp_path) -> None:
    path = tmp_path / "validator.json"
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(start.ConfigError, match="cannot be read"):
        start.read_config(path)


def test_a_config_that_cannot_work_ends_without_a_restart(tmp_path) -> None:
    done = run_start(tmp_path, {"entrypoints": ["e:8001"]}, show=())
    assert done.returncode == 78
    assert "agave_known_validators is not" in done.stderr


@pytest.mark.parametrize("code", [78, 1])
def test_what_runs_before_ends_the_start_with_its_own_code(code, tmp_path) -> None:
    before = tmp_path / "before"
    before.write_text(f"#!/bin/sh\necho asked >&2\nexit {code}\n")
    before.chmod(0o755)
    command = [
        sys.executable,
        *install_start(tmp_path, {}),
        "--",
        "--ledger",
        str(tmp_path),
        "--snapshots",
        str(tmp_path),
    ]
    environment = {**os.environ, "QTRADE_BEFORE_START": str(before)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "asked\n")
    shown = [*command[: command.index("--")], "--show", *command[command.index("--") :]]
    assert subprocess.run(shown, env=environment, capture_output=True, check=True).stderr == b""


def note(tmp_path, version: str) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger/qtrade-written-by.json").write_text(json.dumps({"program": "agave", "version": version}))


def noted(tmp_path) -> dict[str, object]:
    return dict(json.loads((tmp_path / "ledger/qtrade-written-by.json").read_text()))


@pytest.mark.parametrize("before", ["4.1.9", "4.2.0", "4.3.0-rc.0", ""])
def test_a_start_notes_who_writes_from_now_on(tmp_path, before) -> None:
    if before:
        note(tmp_path, before)
    assert run_start(tmp_path, {}, show=()).returncode == 0
    assert noted(tmp_path) == {"schema_version": 1, "program": "agave", "version": "4.2.1"}
    assert [path.name for path in (tmp_path / "ledger").iterdir()] == ["qtrade-written-by.json"]


@pytest.mark.parametrize("before", ["4.0.3", "3.1.14", "4.4.0", "5.2.1", "nonsense"])
def test_data_of_a_version_further_away_is_not_started_on(tmp_path, before) -> None:
    note(tmp_path, before)
    for accepted in ("", "4.0.2"):
        done = run_start(tmp_path, {"accept_data_of": accepted}, show=())
        assert (done.returncode, done.stdout) == (78, "")
        assert f"the ledger was written by Agave {before}, and 4.2.1 takes that of 4.1, 4.2, 4.3 only" in done.stderr
        assert f"set agave_accept_data_of to {before}" in done.stderr
        assert noted(tmp_path)["version"] == before


def test_data_that_the_config_accepts_is_started_on_once_and_a_snapshot_may_be_fetched(tmp_path) -> None:
    note(tmp_path, "4.0.3")
    done = run_start(tmp_path, {**ONLINE, "accept_data_of": "4.0.3"}, show=())
    assert done.returncode == 0, done.stderr
    assert "--no-snapshot-fetch" not in done.stdout
    assert noted(tmp_path)["version"] == "4.2.1"


def test_to_show_is_not_to_note(tmp_path) -> None:
    note(tmp_path, "4.1.0")
    assert run_start(tmp_path, {}).returncode == 0
    assert noted(tmp_path)["version"] == "4.1.0"


def test_a_ledger_that_cannot_be_written_is_no_traceback(tmp_path) -> None:
    (tmp_path / "ledger/.qtrade-written-by.json").mkdir(parents=True)
    done = run_start(tmp_path, {}, show=())
    assert done.returncode == 78
    assert "qtrade-written-by.json cannot be written" in done.stderr


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": '])
def test_a_note_that_says_nothing_stops_nothing(start, tmp_path, content) -> None:
    (tmp_path / start.WRITTEN).write_text(content)
    assert start.read_written(tmp_path) == ""


@pytest.mark.parametrize(
    ("client", "poh_core", "left"),
    [([], 0, {0, 1, 2, 3}), ([3], 0, {0, 1, 2}), (["2", "3"], 1, {0, 1}), ([9], 0, {0, 1, 2, 3})],
)
def test_the_validator_stays_off_the_clients_cpus(start, client, poh_core, left) -> None:
    assert start.leave_cpus({"client_cpus": client}, poh_core, {0, 1, 2, 3}) == left


@pytest.mark.parametrize(
    ("client", "allowed", "words"),
    [
        ([2, 5], {0, 1, 2, 3, 4, 5}, "names CPU 2, and the image pins proof of history to the core 3: name CPUs above"),
        ([3], {0, 1, 2, 3}, "names CPU 3"),
        ([4, 5], {4, 5}, "none is left to the validator"),
    ],
)
def test_cpus_that_move_proof_of_history_or_leave_none_are_refused(start, client, allowed, words) -> None:
    with pytest.raises(start.ConfigError, match=words):
        start.leave_cpus({"client_cpus": client}, 3, allowed)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("is_apart", [True, False])
def test_the_kernel_keeps_the_validator_off_them(*, is_apart, tmp_path) -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    words = install_start(tmp_path, {"client_cpus": others if is_apart else []})
    (tmp_path / "validator").write_text("#!/bin/sh\ngrep Cpus_allowed_list /proc/self/status\n")
    flags = ["--ledger", str(tmp_path / "ledger"), "--snapshots", str(tmp_path)]
    done = subprocess.run([sys.executable, *words, "--", *flags], capture_output=True, text=True, check=True)
    assert (done.stdout.split()[1] == str(first)) == is_apart
