"""A recipe with other ports works everywhere: its layers and their specs, alone and together, and what the programs then do."""

import json
from pathlib import Path
from typing import Any

import pytest

from bake.chamber import Chamber, Command, run_in_chamber
from bake.check_image import list_image_checks
from qtrade.errors import Refused
from qtrade.settings import load_settings
from tests.fakes.lab_layers import BakedRecipe, bake_all, change_vars, check_together

pytestmark = pytest.mark.torture

MOVED: dict[str, dict[str, Any]] = {
    "bare_metal": {},
    "postgres": {"postgres_port": 6432},
    "geyser": {"geyser_grpc_listen": ["127.0.0.1:11000"], "geyser_prometheus_address": "127.0.0.1:9899"},
    "agave": {"agave_rpc_port": 7899, "agave_port_range": "9000-9040", "agave_gossip_port": 9001},
    "qtrade_client": {"qtrade_client_health_address": "127.0.0.1:9700", "qtrade_client_watchdog_s": 0},
    "datadog": {"datadog_otlp_grpc_endpoint": "127.0.0.1:15317", "datadog_collector_telemetry_port": 19888},
}
# Of the interfaces that were moved, as the roles' defaults are.
LEFT = ("8899", "8900", "10000", "8999", "5432", "9600", "8000-8030", "8000:8030", "14317", "18888")
ALLOWED = "in json-rpc 192.0.2.0/24\nin websocket 192.0.2.0/24\nin grpc 2001:db8::/32\n"
# Where a role's files name a port: not the programs' own defaults and examples.
FILES = "/usr/share/qtrade/interfaces.d /usr/share/qtrade/arguments.d /usr/lib/systemd/system/qtrade-* /etc/systemd/system/*.d"
FILES += (
    " /usr/lib/qtrade/agave/validator.sh /etc/ufw/user*.rules /usr/lib/qtrade/ufw_solana/boot.* /etc/otelcol-contrib"
)
FILES += " /etc/yellowstone/base.json /etc/postgresql/qtrade /etc/pgbackrest/pgbackrest.conf"
# A server on the baked config, in a place of its own, asked as people and units do: without naming the port.
POSTGRES = """
ip link set lo up
install -d -o postgres -g postgres /run/postgresql /run/pg
runuser -u postgres -- /usr/lib/postgresql/17/bin/initdb --auth=peer -D /run/pg/main >/dev/null
runuser -u postgres -- /usr/lib/postgresql/17/bin/pg_ctl -w -D /run/pg/main -l /run/pg/log \
    -o "--config-file=/etc/postgresql/qtrade/postgresql.conf --data_directory=/run/pg/main --external_pid_file=/run/pg/pid \
    -c dynamic_shared_memory_type=mmap" start >&2 || { cat /run/pg/log >&2; exit 1; }
runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --dbname=postgres --command='SHOW port'
ls /run/postgresql/.s.PGSQL.6432
runuser -u postgres -- /usr/lib/postgresql/17/bin/pg_ctl -w -m immediate -D /run/pg/main stop >/dev/null
"""


@pytest.fixture(scope="module")
def moved() -> BakedRecipe:
    settings = load_settings()
    return bake_all(settings, change_vars(settings, "lab", MOVED))


def run_in_image(moved: BakedRecipe, folder: Path, script: str) -> str:
    """Run a script in a chroot of all layers together; return what it prints."""
    blobs = tuple(moved.store.open_blob(moved.records[name].digest) for name in moved.records)
    work = folder / "image"
    command = Command(("chroot", str(work / "root"), "sh", "-euc", script))
    return run_in_chamber(Chamber(work, blobs, (command,)), env={"LC_ALL": "C.UTF-8"}, timeout_s=120).stdout


def test_the_specs_of_all_roles_hold_together(moved: BakedRecipe) -> None:
    """Those of each layer alone were run by the bake."""
    checks = list_image_checks(moved.settings, moved.recipe)
    assert sum(check_together(moved, check, moved.records) for check in checks) >= 7


def test_no_file_names_a_port_that_was_moved_away(moved: BakedRecipe, tmp_path: Path) -> None:
    words = "|".join(LEFT)
    search = f"grep -rnwE '{words}' {FILES} || true"
    assert run_in_image(moved, tmp_path, search) == ""


def test_the_search_finds_the_ports_where_they_are(moved: BakedRecipe, tmp_path: Path) -> None:
    found = run_in_image(moved, tmp_path, f"grep -rlwE '7899|6432|11000|9899|9700' {FILES}").split()
    for path in (
        "/usr/lib/qtrade/agave/validator.sh",
        "/etc/otelcol-contrib/config.yaml",
        "/etc/postgresql/qtrade/postgresql.conf",
        "/etc/yellowstone/base.json",
        "/usr/lib/systemd/system/qtrade-client.service",
    ):
        assert path in found


def test_the_allow_list_opens_the_new_ports(moved: BakedRecipe, tmp_path: Path) -> None:
    program = "python3 -I -B /usr/lib/qtrade/ufw_solana/allow_list.py --check /tmp/rules"
    said = run_in_image(moved, tmp_path, f"printf '{ALLOWED}' >/tmp/rules; {program}")
    assert [line.split("--dport ")[1].split()[0] for line in said.splitlines() if "--dport" in line] == [
        "7899",
        "7900",
        "11000",
    ]


def test_the_server_is_reached_without_naming_its_port(moved: BakedRecipe, tmp_path: Path) -> None:
    assert run_in_image(moved, tmp_path, POSTGRES).split() == ["6432", "/run/postgresql/.s.PGSQL.6432"]


def test_readiness_asks_the_new_port(moved: BakedRecipe, tmp_path: Path) -> None:
    said = json.loads(run_in_image(moved, tmp_path, "qtrade-agave-ready || test $? = 1"))
    assert "JSON-RPC at http://127.0.0.1:7899 does not answer" in said["reasons"]


def test_a_spec_that_reads_what_was_not_baked_fails(moved: BakedRecipe, tmp_path: Path) -> None:
    """A layer with the defaults, among the others: the image specs see that the owner says otherwise."""
    with_default = bake_all(moved.settings, change_vars(moved.settings, "lab", {**MOVED, "agave": {}}))
    mixed = {**moved.records, "agave": with_default.records["agave"]}
    checks = {check.role: check for check in list_image_checks(moved.settings, moved.recipe)}
    for role, test in (
        ("datadog", "test_collector_asks_where_the_other_roles_declare"),
        ("ufw_solana", "test_the_world_reaches_what_its_owner_declares_public_and_nothing_else"),
    ):
        with pytest.raises(Refused) as caught:
            check_together(moved, checks[role], mixed)
        assert f"{role}: {test}" in str(caught.value.details)
