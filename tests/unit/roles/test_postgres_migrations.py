"""The rules of migrations: one expands, and what an older image does not survive waits until no host can go back to it."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from bake.release import Release, record_release
from qtrade.manifest import load_manifest
from tests.fakes.examples import make_image

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[3]
ROLE = PROJECT / "ansible/roles/postgres"
MIGRATIONS = ROLE / "files/usr/share/qtrade/postgres/migrations"
PROGRAM: dict[str, Any] = runpy.run_path(str(ROLE / "files/usr/lib/qtrade/postgres/migrate.py"))
read_migrations = PROGRAM["read_migrations"]
# A host keeps the image that runs and the one before it.
VERSIONS_BETWEEN = 2


def too_early(project: Path, after: str) -> list[str]:
    """Return the recipes of which too few versions were released since the one that a contract comes after."""
    releases = [load_manifest(Release, path) for path in sorted((project / "manifests/releases").glob("*/*.json"))]
    last = {release.name: release.sequence for release in releases if release.version == after}
    newest = {name: max(one.sequence for one in releases if one.name == name) for name in last}
    return sorted(name for name in last if newest[name] - last[name] < VERSIONS_BETWEEN) if last else ["none has it"]


def test_the_images_own_migrations_follow_the_rules() -> None:
    found = read_migrations(MIGRATIONS)
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert {one.label: too_early(PROJECT, one.after) for one in found if one.kind == "contract"} == {}


@pytest.mark.parametrize(("released", "is_early"), [(1, True), (2, True), (3, False)])
def test_a_contract_waits_for_two_versions(released: int, tmp_path: Path, *, is_early: bool) -> None:
    for number in range(1, released + 1):
        record_release(tmp_path, make_image(name="production", version=f"1.{number}.0"))
    assert too_early(tmp_path, "1.1.0") == (["production"] if is_early else [])
    assert too_early(tmp_path, "9.9.9") == ["none has it"]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DROP TABLE x;", "DROP"),
        ("  drop index x;", "drop"),
        ("DELETE FROM x;", "DELETE"),
        ("ALTER TABLE x RENAME TO y;", "RENAME"),
        ("ALTER TABLE x DROP COLUMN y;", "DROP COLUMN"),
        ("ALTER TABLE x ALTER COLUMN y TYPE bigint;", "ALTER COLUMN y TYPE"),
        ("ALTER TABLE x ALTER COLUMN y SET NOT NULL;", "SET NOT NULL"),
        ("ALTER TABLE x ADD COLUMN y numeric(40, 0) NOT NULL;", "ADD COLUMN y numeric(40, 0) NOT NULL"),
        ("ALTER TABLE x ADD COLUMN a int DEFAULT 1,\n    ADD COLUMN y int\n    NOT NULL;", "ADD COLUMN y int NOT NULL"),
    ],
)
def test_what_breaks_an_older_image_is_refused_in_an_expansion_alone(sql: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "0001_x.sql"
    path.write_text(f"-- expand: x\n{sql}\n")
    with pytest.raises(ValueError, match=r"0001_x\.sql expands, but has `") as caught:
        read_migrations(tmp_path)
    assert f"`{words}`" in str(caught.value)
    path.write_text(f"-- contract after 1.4.0: x\n{sql}\n")
    (found,) = read_migrations(tmp_path)
    assert (found.kind, found.after) == ("contract", "1.4.0")


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE x ADD COLUMN y int;",
        "ALTER TABLE x ADD COLUMN y int NOT NULL DEFAULT 7;",
        "ALTER TABLE x ADD COLUMN y int GENERATED ALWAYS AS (1) STORED NOT NULL;",
        "CREATE TABLE x (y int NOT NULL);",
        "-- DROP is said, not done",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE format('DROP TABLE %I', 'x'); END$$;",
    ],
)
def test_what_adds_may_expand(sql: str, tmp_path: Path) -> None:
    (tmp_path / "0001_x.sql").write_text(f"-- expand: x\n{sql}\n")
    (found,) = read_migrations(tmp_path)
    assert found.kind == "expand"


@pytest.mark.parametrize(
    ("name", "sql", "words"),
    [
        ("1_x.sql", "-- expand: x\n", "is not NNNN_name.sql"),
        ("0001_x.sql", "CREATE TABLE x ();\n", "does not begin with"),
        ("0001_x.sql", "-- expand: \n", "does not begin with"),
        ("0001_x.sql", "-- contract: old things\nDROP TABLE x;\n", "does not begin with"),
        ("0001_x.sql", "-- contract after the last: x\nDROP TABLE x;\n", "does not begin with"),
        ("0001_x.sql", "-- expand: x\nBEGIN;\nCOMMIT;\n", "transaction"),
        ("0001_x.sql", "-- expand: x\n\\! true\n", "command of psql"),
    ],
)
def test_a_migration_outside_the_rules_is_refused(name: str, sql: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(sql)
    with pytest.raises(ValueError, match=words):
        read_migrations(tmp_path)


def test_a_number_used_twice_is_refused(tmp_path: Path) -> None:
    for name in ("0001_a.sql", "0001_b.sql"):
        (tmp_path / name).write_text("-- expand: x\n")
    with pytest.raises(ValueError, match="used twice"):
        read_migrations(tmp_path)


def test_a_function_may_have_its_begin(tmp_path: Path) -> None:
    sql = "-- contract after 1.4.0: old f\nCREATE FUNCTION f() AS $$\nBEGIN\n RETURN 1;\nEND\n$$;\n"
    (tmp_path / "0001_f.sql").write_text(sql)
    (found,) = read_migrations(tmp_path)
    assert (found.number, found.name, found.kind) == (1, "f", "contract")
