"""The journal survives a crash in the middle of a line."""

import json

import pytest

from flash.journal import Journal, latest
from flash.states import ENDS, State
from qtrade.errors import BadInput
from qtrade.redaction import register_secret

pytestmark = pytest.mark.unit


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "rpc-1/20260101T000000Z.jsonl")


def test_a_new_journal_is_empty_and_not_open(journal) -> None:
    assert (journal.entries, journal.state, journal.is_open, journal.evidence("plan")) == ((), None, False, None)


def test_entries_come_back_in_order(journal) -> None:
    journal.write(State.PLANNED, {"plan": "p"})
    journal.write(State.LEASED, {"pid": 7})
    assert [(entry.state, entry.evidence) for entry in journal.entries] == [
        (State.PLANNED, {"plan": "p"}),
        (State.LEASED, {"pid": 7}),
    ]
    assert journal.state is State.LEASED


def test_the_newest_evidence_of_a_name_counts(journal) -> None:
    journal.write(State.STAGING, {"generation": 1, "nonce": "a"})
    journal.write(State.STAGING, {"generation": 2})
    assert (journal.evidence("generation"), journal.evidence("nonce"), journal.evidence("x")) == (2, "a", None)


def test_evidence_that_is_none_hides_older_evidence(journal) -> None:
    journal.write(State.STAGING, {"x": 1})
    journal.write(State.WRITING, {"x": None})
    assert journal.evidence("x") is None


@pytest.mark.parametrize(
    "torn", ['{"at": 1, "state": "WRIT', '{"at": 1, "evidence": {}, "state": "WRITING"}', "{", "\xff", "{" + "x" * 900]
)
def test_a_torn_last_line_is_ignored_and_written_over(journal, torn) -> None:
    journal.write(State.PLANNED, {})
    with journal.path.open("a") as sink:
        sink.write(torn)
    assert journal.state is State.PLANNED
    journal.write(State.LEASED, {})
    assert [entry.state for entry in journal.entries] == [State.PLANNED, State.LEASED]
    assert [json.loads(line)["state"] for line in journal.path.read_text().splitlines()] == ["PLANNED", "LEASED"]


def test_a_first_line_that_was_torn_leaves_an_empty_journal(journal) -> None:
    journal.path.parent.mkdir()
    journal.path.write_text('{"at"')
    assert journal.state is None
    journal.write(State.PLANNED, {})
    assert journal.state is State.PLANNED


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(journal) -> None:
    journal.write(State.PLANNED, {})
    with journal.path.open("a") as sink:
        sink.write("garbage\n")
    with pytest.raises(BadInput, match=r"jsonl:2 is no journal line"):
        journal.entries  # noqa: B018 - reading is what fails


@pytest.mark.parametrize("state", State)
def test_a_journal_is_open_until_an_end(journal, state) -> None:
    journal.write(state, {})
    assert journal.is_open is (state not in ENDS)


def test_secrets_are_not_journalled(journal) -> None:
    register_secret("correct-horse-battery")
    journal.write(State.FAILED_SAFE, {"error": "login with correct-horse-battery failed"})
    assert journal.evidence("error") == "login with *** failed"


def test_the_latest_journal_of_a_host_is_found(tmp_path) -> None:
    assert latest(tmp_path / "nobody") is None
    for name in ("20260102T000000Z-000001", "20260102T000000Z-000002", "20251231T235959Z-999999"):
        Journal(tmp_path / f"{name}.jsonl").write(State.PLANNED, {})
    assert latest(tmp_path).path.stem == "20260102T000000Z-000002"
