"""What the status says of the data disks: which version wrote them, whatever else lies there."""

import json
import os

import pytest

from flash.agent.status import read_data

pytestmark = pytest.mark.unit


def note(folder, text: str) -> None:
    folder.mkdir()
    (folder / "qtrade-written-by.json").write_text(text)


def test_the_notes_beside_the_data_are_told(tmp_path) -> None:
    note(tmp_path / "ledger", json.dumps({"schema_version": 1, "program": "agave", "version": "4.2.1"}))
    note(tmp_path / "data", json.dumps({"program": "other", "version": "1"}))
    (tmp_path / "empty").mkdir()
    assert read_data(tmp_path) == {"agave": "4.2.1", "other": "1"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"program": "agave"}', '{"program": "agave", "version": 4}', "x" * 4000]
)
def test_what_is_no_note_is_left_out(tmp_path, text) -> None:
    note(tmp_path / "ledger", text)
    assert read_data(tmp_path) == {}


def test_what_another_user_put_there_is_neither_followed_nor_waited_for(tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"program": "agave", "version": "root's"}))
    for name in ("ledger", "accounts"):
        (tmp_path / name).mkdir()
    (tmp_path / "ledger/qtrade-written-by.json").symlink_to(secret)
    os.mkfifo(tmp_path / "accounts/qtrade-written-by.json")
    assert read_data(tmp_path) == {}
