"""The questions that are asked all the time, on generated data: each is answered by the index that was made for it."""

import json
from typing import Any

import pytest

from tests.integration.postgres.conftest import Host

pytestmark = pytest.mark.integration

DATA = """
INSERT INTO pools (address, program, base_mint, quote_mint, fee_bps, first_seen_slot, is_active)
SELECT 'pool' || n, 'prog' || n % 5, 'mint' || n % 200, 'mint' || n % 7, 30, n, n % 10 <> 0 FROM generate_series(1, 2000) n;
INSERT INTO quotes (pool, slot, base_amount, quote_amount, seen_at)
SELECT 1 + n % 2000, 300000000 + n / 50, n, n * 2, date_trunc('day', now(), 'UTC') + n * interval '500 milliseconds'
FROM generate_series(1, 300000) n;
INSERT INTO opportunities (slot, path, expected_profit_lamports, state, seen_at)
SELECT 300000000 + n / 20, ARRAY['a', 'b'], n % 977, CASE WHEN n % 1000 = 0 THEN 'seen' ELSE 'skipped' END,
    date_trunc('month', now(), 'UTC') + n * interval '5 seconds' FROM generate_series(1, 200000) n;
INSERT INTO trades (opportunity, signature, slot, state, profit_lamports, fee_lamports, sent_at, settled_at)
SELECT n, 'sig' || n, 300000000 + n, CASE WHEN n % 5000 = 0 THEN 'sent' WHEN n % 3 = 0 THEN 'landed' ELSE 'failed' END, n, 5000,
    now() - n * interval '10 seconds', CASE WHEN n % 5000 = 0 THEN NULL ELSE now() - n * interval '10 seconds' END
FROM generate_series(1, 100000) n;
VACUUM (ANALYZE) trades, pools, opportunities, quotes;
"""
MIDDAY = "date_trunc('day', now(), 'UTC') + interval '12 hours'"
QUESTIONS = {
    "the last quote of a pool": (
        f"SELECT * FROM quotes WHERE pool = 42 AND seen_at BETWEEN {MIDDAY} - interval '1 hour' AND {MIDDAY} ORDER BY seen_at DESC LIMIT 1",
        ("Index Scan", "quotes_%_pool_seen_at_idx"),
    ),
    "all quotes of five minutes": (
        f"SELECT * FROM quotes WHERE seen_at BETWEEN {MIDDAY} - interval '5 minutes' AND {MIDDAY}",
        ("Bitmap Index Scan", "quotes_%_seen_at_idx"),
    ),
    "all quotes of some slots": (
        f"SELECT * FROM quotes WHERE slot BETWEEN 300001000 AND 300001020 AND seen_at BETWEEN {MIDDAY} - interval '12 hours' AND {MIDDAY}",
        ("Bitmap Index Scan", "quotes_%_slot_idx"),
    ),
    "the best open opportunities": (
        "SELECT * FROM opportunities WHERE state = 'seen' ORDER BY expected_profit_lamports DESC LIMIT 20",
        ("Index Scan", "opportunities_%_expected_profit_lamports_idx"),
    ),
    "an opportunity by its key": (
        "SELECT * FROM opportunities WHERE id = 4711 AND seen_at = now()",
        ("Index Scan", "opportunities_%_pkey"),
    ),
    "a trade by its signature": (
        "SELECT * FROM trades WHERE signature = 'sig77'",
        ("Index Scan", "trades_signature_key"),
    ),
    "trades in flight": (
        "SELECT * FROM trades WHERE state = 'sent' ORDER BY sent_at",
        ("Index Scan", "trades_in_flight"),
    ),
    "the profit of an hour": (
        "SELECT sum(profit_lamports - fee_lamports) FROM trades WHERE state = 'landed' AND settled_at > now() - interval '1 hour'",
        ("Index Only Scan", "trades_landed"),
    ),
    "trades of an opportunity": ("SELECT * FROM trades WHERE opportunity = 4711", ("Index Scan", "trades_opportunity")),
    "pools of a pair": (
        "SELECT * FROM pools WHERE base_mint = 'mint9' AND quote_mint = 'mint3' AND is_active",
        ("Index Scan", "pools_pair"),
    ),
}


@pytest.fixture(scope="module")
def filled(host: Host) -> Host:
    host.psql(DATA)
    return host


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


@pytest.mark.parametrize("question", QUESTIONS)
def test_by_its_index(question: str, filled: Host) -> None:
    sql, (kind, index) = QUESTIONS[question]
    found = nodes(json.loads(filled.psql(f"EXPLAIN (FORMAT json, ANALYZE, BUFFERS) {sql}"))[0]["Plan"])
    used = {(node["Node Type"], node.get("Index Name", "")) for node in found}
    before, _, after = index.partition("%")
    assert any(have == kind and name.startswith(before) and name.endswith(after) for have, name in used), used
    assert "Seq Scan" not in {node["Node Type"] for node in found if "default" not in node.get("Relation Name", "")}, (
        used
    )


def test_a_stretch_of_time_reads_few_partitions_and_pages(filled: Host) -> None:
    sql, _ = QUESTIONS["all quotes of five minutes"]
    plan = json.loads(filled.psql(f"EXPLAIN (FORMAT json, ANALYZE, BUFFERS) {sql}"))[0]["Plan"]
    read = {node["Relation Name"] for node in nodes(plan) if "Relation Name" in node and node["Actual Loops"]}
    assert len([name for name in read if "default" not in name]) == 1, read
    name = next(name for name in read if "default" not in name)
    pages = int(filled.psql(f"SELECT relpages FROM pg_class WHERE relname = '{name}'"))
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < pages / 5


def test_brin_pays(filled: Host) -> None:
    sizes = "SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = '{}'::regclass"
    brin, btree = (int(filled.psql(sizes.format(name))) for name in ("quotes_seen_at", "quotes_pool_seen_at"))
    assert brin * 20 < btree


def test_append_only_partitions_are_vacuumed_for_their_inserts(filled: Host) -> None:
    options = filled.psql(
        "SELECT DISTINCT reloptions FROM pg_class WHERE relname ~ '^quotes_[0-9]{8}$' AND relkind = 'r'"
    )
    assert "autovacuum_vacuum_insert_threshold=200000" in options
