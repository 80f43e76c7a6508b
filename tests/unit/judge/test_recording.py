"""Records: what is written is read again, whatever a crash left, and what is no record is named by line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash.judge.record import Sample
from flash.judge.recording import Recorder, Run, read_run, read_samples
from qtrade.errors import BadInput, NotFound

pytestmark = pytest.mark.unit
RUN = Run("1.2.0", {"rpc-1": 100.5}, ("rpc-2", "rpc-3"), ("agave",))
SAMPLE = Sample("rpc-1", "slot_lag", 130.25, 4.0, "of rpc.example")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "rollouts/1/soak.jsonl"


def write(path: Path, *samples: Sample, run: Run = RUN) -> None:
    with Recorder(path) as record:
        record.begin(run)
        record.add(samples)


SAMPLES = st.lists(
    st.builds(Sample, st.text(), st.text(), st.floats(0, 2e9), st.none() | st.floats(allow_nan=False, allow_infinity=False), st.text())
)  # fmt: skip


@given(SAMPLES)
def test_samples_come_back_as_they_were(tmp_path_factory, samples) -> None:
    path = tmp_path_factory.mktemp("record") / "soak.jsonl"
    write(path, *samples)
    assert list(read_samples(path)) == samples
    assert read_run(path) == RUN


def test_each_line_is_on_disk_as_soon_as_it_is_written(path) -> None:
    with Recorder(path) as record:
        record.begin(RUN)
        record.add([SAMPLE])
        assert list(read_samples(path)) == [SAMPLE]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_what_a_crash_cut_off_is_neither_read_nor_left_in_the_way(path, cut) -> None:
    write(path, SAMPLE, SAMPLE)
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read_samples(path)) == [SAMPLE]
    other = Sample("rpc-2", "slot_lag", 131.0, None, "silent")
    with Recorder(path) as record:
        record.add([other])
    assert list(read_samples(path)) == [SAMPLE, other]


def test_a_file_of_half_a_line_is_begun_anew(path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text('{"record": "ru' + "x" * 9000)
    write(path, SAMPLE)
    assert list(read_samples(path)) == [SAMPLE]


def test_what_is_no_number_is_written_as_none(path) -> None:
    write(path, Sample("a", "cpu_mhz", 1.0, float("nan"), "odd"), Sample("a", "cpu_mhz", 2.0, float("inf")))
    assert [(one.value, one.detail) for one in read_samples(path)] == [(None, "nan: odd"), (None, "inf")]


def test_two_records_one_behind_the_other_are_one(path, tmp_path) -> None:
    write(path, SAMPLE)
    later = tmp_path / "later.jsonl"
    write(later, SAMPLE, run=Run("1.2.0", {"rpc-1": 90.0, "rpc-2": 300.0}, ("rpc-3", "rpc-4"), ("geyser",)))
    both = tmp_path / "both.jsonl"
    both.write_bytes(path.read_bytes() + later.read_bytes())
    swapped = tmp_path / "swapped.jsonl"
    swapped.write_bytes(later.read_bytes() + path.read_bytes())
    wanted = Run("1.2.0", {"rpc-1": 100.5, "rpc-2": 300.0}, ("rpc-3", "rpc-4"), ("agave", "geyser"))
    assert read_run(both) == read_run(swapped) == wanted
    assert list(read_samples(both)) == [SAMPLE, SAMPLE]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no json", "Expecting value"), ("[]", "list indices"), ("{}", "record is missing"),
        ('{"record": "sample", "host": "a"}', "value is missing"),
        ('{"record": "sample", "host": 1, "metric": "m", "at": 1, "value": 1}', "1 is no text"),
        ('{"record": "sample", "host": "a", "metric": "m", "at": true, "value": 1}', "True is no number"),
        ('{"record": "sample", "host": "a", "metric": "m", "at": 1, "value": NaN}', "nan is no number"),
        ('{"record": "verdict"}', "found a 'verdict'"), ('{"record": "run", "schema_version": 2}', "of schema_version 2"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_named_by_its_line(path, line, said) -> None:
    write(path, SAMPLE)
    with path.open("a") as sink:
        sink.write(line + "\n")
    with pytest.raises(BadInput) as caught:
        list(read_samples(path))
    assert f"{path}:3" in caught.value.details
    assert said in caught.value.details
    assert caught.value.resolution


def test_a_record_says_what_is_judged_or_is_refused(path, tmp_path) -> None:
    with Recorder(path) as record:
        record.add([SAMPLE])
    with pytest.raises(BadInput, match="does not say what is judged"):
        read_run(path)
    with pytest.raises(NotFound):
        read_run(tmp_path / "none")
    with pytest.raises(BadInput, match="cannot be read"):
        read_run(tmp_path)


def test_lines_say_their_version(path) -> None:
    write(path, SAMPLE)
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["schema_version"], first["record"], second["record"]) == (1, "run", "sample")
