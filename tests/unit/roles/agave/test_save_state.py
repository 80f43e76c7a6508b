"""Copies of tower and vote history after a stop."""

import pytest

pytestmark = pytest.mark.unit

FILES = {"tower-1_9-A.bin": b"1", "vote_history-A.bin": b"2"}


def names(copies):
    return sorted(path.name for path in copies.iterdir())


def test_only_what_was_voted_is_copied(save_state, tmp_path) -> None:
    for name in (*FILES, "tower-1_9-A.bin.new", "contact-info.bin"):
        (tmp_path / name).write_bytes(FILES.get(name, b"x"))
    assert save_state.read_state(tmp_path) == FILES


def test_copy_is_private_and_whole(save_state, tmp_path) -> None:
    made = save_state.save_copy(FILES, tmp_path / "tower", 3, 0)
    assert made == tmp_path / "tower/19700101T000000Z"
    assert {path.name: path.read_bytes() for path in made.iterdir()} == FILES
    assert made.stat().st_mode & 0o777 == 0o700


def test_oldest_copies_go(save_state, tmp_path) -> None:
    for second in range(5):
        save_state.save_copy({"tower-1_9-A.bin": b"%d" % second}, tmp_path / "tower", 3, second)
    assert names(tmp_path / "tower") == ["19700101T000002Z", "19700101T000003Z", "19700101T000004Z"]


def test_a_crash_loop_pushes_nothing_out(save_state, tmp_path) -> None:
    save_state.save_copy({"tower-1_9-A.bin": b"old"}, tmp_path / "tower", 2, 0)
    for second in range(1, 20):
        save_state.save_copy(FILES, tmp_path / "tower", 2, second)
    assert names(tmp_path / "tower") == ["19700101T000000Z", "19700101T000001Z"]


def test_without_files_nothing_is_written(save_state, tmp_path) -> None:
    assert save_state.save_copy({}, tmp_path / "tower", 3, 0) is None
    assert names(tmp_path / "tower") == []


def test_a_clock_that_was_set_back_keeps_the_order(save_state, tmp_path) -> None:
    save_state.save_copy({"a": b"1"}, tmp_path / "tower", 3, 100)
    made = save_state.save_copy({"a": b"2"}, tmp_path / "tower", 3, 50)
    assert names(tmp_path / "tower")[-1] == made.name


def test_what_a_killed_run_left_goes(save_state, tmp_path) -> None:
    (tmp_path / "tower/.new-x").mkdir(parents=True)
    save_state.save_copy(FILES, tmp_path / "tower", 3, 0)
    assert names(tmp_path / "tower") == ["19700101T000000Z"]


@pytest.mark.parametrize(
    ("how", "status", "graceful"),
    [("exited", "0", True), ("killed", "TERM", False), ("exited", "1", False), ("", "", False)],
)
def test_only_an_end_of_its_own_is_graceful(how, status, graceful, save_state) -> None:
    stop = save_state.describe_stop({"EXIT_CODE": how, "EXIT_STATUS": status, "SERVICE_RESULT": "success"}, 7.5)
    assert stop == {"graceful": graceful, "how": how, "status": status, "result": "success", "time": 7}
