"""From a real cluster of PostgreSQL 15 to the image's major version, by the commands that the refusal prints.

The older server is Debian 12's, put into the stacked layers beside the image's own, as in an image that has both for once.
"""

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from tests.integration.postgres.conftest import MOUNT, SHARE, Host

pytestmark = pytest.mark.integration

OLD = "15"
OLD_DATA = f"{MOUNT}/postgresql/{OLD}/main"
DUMP = f"{MOUNT}/postgresql/dump"
ROLE = Path(__file__).resolve().parents[3] / "ansible/roles/postgres"
# What Debian 12's server needs under names that the layers do not have.
LIBRARIES = ("libicui18n.so.72", "libicuuc.so.72", "libicudata.so.72", "libldap-2.5.so.0", "liblber-2.5.so.0")
FILL = """
INSERT INTO pools (address, program, base_mint, quote_mint, fee_bps, first_seen_slot) VALUES ('p', 'x', 'b', 'q', 30, 7);
INSERT INTO quotes (pool, slot, base_amount, quote_amount) SELECT id, n, n * 10, n * 20 FROM pools, generate_series(1, 500) n;
INSERT INTO opportunities (slot, path, expected_profit_lamports) SELECT n, ARRAY['a', 'ö'], n FROM generate_series(1, 50) n;
INSERT INTO trades (opportunity, signature, state, profit_lamports) SELECT id, 'sig-' || id, 'landed', 5 FROM opportunities;
"""
TABLES = ("pools", "quotes", "opportunities", "trades")


def rows(host: Host) -> dict[str, list[str]]:
    return {table: sorted(host.psql(f"SELECT t::text FROM {table} t").splitlines()) for table in TABLES}


def add_old_server(host: Host) -> None:
    other = Path(os.environ["QTRADE_TEST_OTHER_POSTGRES"])
    for folder in ("usr/lib/postgresql", "usr/share/postgresql"):
        shutil.copytree(other / folder / OLD, host.root / folder / OLD, symlinks=True)
    for name in LIBRARIES:
        shutil.copyfile(other / "usr/lib/x86_64-linux-gnu" / name, host.root / "usr/lib/x86_64-linux-gnu" / name)


def render(template: str, major: str) -> str:
    """Render a template of the role for another major version, as a bake does."""
    jinja = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    defaults = {**yaml.safe_load((ROLE / "defaults/main.yml").read_text()), "postgres_major": major}
    values = {
        name: jinja.from_string(text).render(defaults, postgres_data_mount=MOUNT) if isinstance(text, str) else text
        for name, text in defaults.items()
    }
    return jinja.from_string((ROLE / "templates" / template).read_text()).render(values)


def become(host: Host, major: str) -> None:
    """Make the stacked layers those of an image of this major version."""
    config = host.path("/etc/postgresql/qtrade/postgresql.conf")
    config.write_text(render("etc/postgresql/qtrade/postgresql.conf.j2", major))
    baked = host.path(f"{SHARE}/server.json")
    data = f"{MOUNT}/postgresql/{major}/main"
    baked.write_text(json.dumps({**json.loads(baked.read_text()), "major": major, "data_directory": data}))
    link = host.path(f"/etc/postgresql/{major}/main")
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to("../qtrade")
    host.major, host.data = major, data
    host.make_folders()


def printed_commands(said: str) -> list[list[str]]:
    """Return the commands that the refusal prints for the program of the role."""
    lines = [shlex.split(line) for line in said.splitlines() if line.startswith("  sudo -u postgres qtrade-postgres ")]
    return [["/usr/bin/qtrade-postgres", *words[4:]] for words in lines]


@pytest.fixture(scope="module")
def old_rows(bare: Host) -> Iterator[dict[str, list[str]]]:
    """The rows of a cluster that an image with the older server made, used, and stopped well; the image has changed since."""
    new = bare.major
    bare.mount()
    add_old_server(bare)
    become(bare, OLD)
    assert "made" in bare.python("init_cluster").stdout
    bare.start()
    bare.python("migrate")
    bare.psql(FILL, role="qtrade_client")
    assert bare.psql("SHOW server_version_num").startswith(OLD)
    collation = bare.psql("SELECT datcollate, datctype FROM pg_database WHERE datname = 'qtrade'")
    assert collation == "C|C.UTF-8"
    found = rows(bare)
    assert {table: len(lines) for table, lines in found.items()} == dict(zip(TABLES, (1, 500, 50, 50), strict=True))
    bare.run("/usr/bin/qtrade-postgres", "dump", DUMP)
    bare.stop()
    become(bare, new)
    yield found
    if bare.server:
        bare.kill()
    bare.unmount()


def test_the_older_cluster_is_refused_and_left_alone(bare: Host, old_rows: dict[str, list[str]]) -> None:
    assert old_rows
    before = bare.fingerprint(OLD_DATA)
    done = bare.python("init_cluster", check=False)
    assert done.returncode == 1
    assert f"{OLD_DATA} is a cluster of PostgreSQL {OLD}, this image has {bare.major}" in done.stderr
    assert bare.fingerprint(OLD_DATA) == before
    assert not bare.path(f"{bare.data}/PG_VERSION").exists()


def test_an_image_without_the_older_server_names_the_package(bare: Host, old_rows: dict[str, list[str]]) -> None:
    assert old_rows
    server = bare.path(f"/usr/lib/postgresql/{OLD}")
    server.rename(server.with_name("away"))
    done = bare.run("/usr/bin/qtrade-postgres", "upgrade", "--check", OLD_DATA, check=False)
    server.with_name("away").rename(server)
    assert done.returncode == 1
    assert f"bake one with the package postgresql-{OLD}" in done.stderr


def test_the_printed_commands_bring_all_rows_over(bare: Host, old_rows: dict[str, list[str]]) -> None:
    commands = printed_commands(bare.python("init_cluster", check=False).stderr)
    ways = [command for command in commands if command[1] in ("make-empty", "upgrade")][:3]
    assert [command[1:] for command in ways] == [
        ["make-empty"],
        ["upgrade", "--check", OLD_DATA],
        ["upgrade", OLD_DATA],
    ]
    for command in ways:
        bare.run(*command)
    assert "adopted" in bare.python("init_cluster").stdout
    bare.start()
    migrated = bare.python("migrate")
    assert "applied" not in migrated.stdout
    assert bare.psql("SHOW server_version_num").startswith(bare.major)
    assert rows(bare) == old_rows
    known = "SELECT count(DISTINCT tablename) FROM pg_stats WHERE tablename IN ('pools', 'quotes', 'opportunities', 'trades')"
    assert bare.psql(known) == "0", "pg_upgrade brought statistics along: the step for them can go"
    bare.psql(bare.path(f"{SHARE}/maintain.sql").read_text())
    assert bare.psql(known) == "4"
    bare.psql("INSERT INTO trades (signature, state) VALUES ('new', 'sent')", role="qtrade_client")
    assert bare.path(f"{OLD_DATA}/PG_VERSION").read_text() == f"{OLD}\n", (
        "the older cluster stays until somebody removes it"
    )


def test_a_dump_of_the_older_server_is_loaded_by_the_printed_commands(
    bare: Host, old_rows: dict[str, list[str]]
) -> None:
    bare.stop()
    bare.run("/usr/bin/qtrade-postgres", "move", bare.data, bare.data.replace("/main", "/upgraded"))
    commands = printed_commands(bare.python("init_cluster", check=False).stderr)
    dump, empty, load = commands[-3:]
    assert [dump[1:], empty[1:], load[1:]] == [["dump", DUMP], ["make-empty"], ["load", DUMP]]
    bare.run(*empty)
    bare.start()
    bare.python("migrate")
    bare.run(*load)
    assert "applied" not in bare.python("migrate").stdout
    assert rows(bare) == old_rows
