"""The table of user ids, and writing it into a root."""

import stat

import pytest
from pydantic import ValidationError

from bake.ids import Ids, write_ids

pytestmark = pytest.mark.unit

TABLE = {
    "schema_version": 1,
    "groups": [{"name": "sol", "gid": 420}, {"name": "ssh-users", "gid": 500}],
    "users": [
        {"name": "sol", "uid": 420, "group": "sol", "home": "/var/lib/agave", "gecos": "Solana validator"},
        {"name": "deploy", "uid": 1001, "group": "sol", "shell": "/bin/bash", "groups": ["ssh-users"]},
    ],
}


def table(**changes) -> Ids:
    return Ids.model_validate({**TABLE, **changes})


def test_the_four_files_are_written(tmp_path) -> None:
    (tmp_path / "etc").mkdir()
    write_ids(tmp_path, table())
    etc = tmp_path / "etc"
    assert (etc / "passwd").read_text() == (
        "sol:x:420:420:Solana validator:/var/lib/agave:/usr/sbin/nologin\ndeploy:x:1001:420::/nonexistent:/bin/bash\n"
    )
    assert (etc / "group").read_text() == "sol:x:420:\nssh-users:x:500:deploy\n"
    assert (etc / "shadow").read_text() == "sol:!*:1:0:99999:7:::\ndeploy:!*:1:0:99999:7:::\n"
    assert (etc / "gshadow").read_text() == "sol:!::\nssh-users:!::deploy\n"
    modes = {name: stat.S_IMODE((etc / name).stat().st_mode) for name in ("passwd", "group", "shadow", "gshadow")}
    assert modes == {"passwd": 0o644, "group": 0o644, "shadow": 0o640, "gshadow": 0o640}


def test_entries_that_are_there_are_replaced_and_the_rest_stays_in_place(tmp_path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\nsol:x:999:999::/home/sol:/bin/sh\nsolana:x:7:7:::\n")
    (etc / "group").write_text("root:x:0:\nsol:x:999:\n")
    write_ids(tmp_path, table())
    assert (etc / "passwd").read_text().splitlines() == [
        "root:x:0:0:root:/root:/bin/bash",
        "solana:x:7:7:::",
        "sol:x:420:420:Solana validator:/var/lib/agave:/usr/sbin/nologin",
        "deploy:x:1001:420::/nonexistent:/bin/bash",
    ]
    assert (etc / "group").read_text().splitlines() == ["root:x:0:", "sol:x:420:", "ssh-users:x:500:deploy"]


def test_writing_twice_changes_nothing(tmp_path) -> None:
    (tmp_path / "etc").mkdir()
    write_ids(tmp_path, table())
    before = {path.name: path.read_text() for path in (tmp_path / "etc").iterdir()}
    write_ids(tmp_path, table())
    assert {path.name: path.read_text() for path in (tmp_path / "etc").iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": [*TABLE["groups"], {"name": "x", "gid": 420}]}, "gid 420 stands twice"),
        ({"users": [*TABLE["users"], {"name": "x", "uid": 420, "group": "sol"}]}, "uid 420 stands twice"),
        ({"groups": [*TABLE["groups"], {"name": "sol", "gid": 421}]}, "group sol stands twice"),
        ({"users": [*TABLE["users"], {"name": "sol", "uid": 421, "group": "sol"}]}, "user sol stands twice"),
        ({"users": [{"name": "x", "uid": 1, "group": "ghost"}]}, "user x is in group ghost"),
        ({"users": [{"name": "x", "uid": 1, "group": "sol", "groups": ["ghost"]}]}, "user x is in group ghost"),
        ({"users": [{"name": "x", "uid": 0, "group": "sol"}]}, "greater than 0"),
        ({"groups": [{"name": "x", "gid": 65535}]}, "less than 65535"),
    ],
)
def test_an_inconsistent_table_is_refused(changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        table(**changes)
