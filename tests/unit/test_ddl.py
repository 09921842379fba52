"""The migrations and the registry say the same, and what they say is what was meant."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from infra.clickhouse import ddl
from infra.clickhouse.migrate import statements
from infra.clickhouse.tables import MONEY, TIME, Table, registry, table_of
from infra.clickhouse.views import View
from infra.errors import UserError
from schemas import topics

TABLES = {table.name: table for table in registry()}


def view(name: str, source: str = "numbers") -> View:
    return View(name, f"of {name}", "", f"CREATE OR REPLACE VIEW {name} AS\nSELECT * FROM {source}", "desk")


def types(topic: topics.Topic) -> dict[str, str]:
    return {column.name: column.type for column in TABLES[topic.table].columns}


def test_the_migrations_lead_to_the_registry() -> None:
    told = "run `python -m infra.clickhouse.ddl --write` and commit the migration it writes"
    assert ddl.changes(ddl.recorded(), *ddl.wanted()) == [], told


def test_every_topic_has_a_table_that_keeps_where_each_record_stood() -> None:
    assert set(TABLES) == {topic.table for topic in topics.ALL}
    for table in TABLES.values():
        assert table.create.splitlines()[0] == f"CREATE TABLE IF NOT EXISTS {table.name}"
        assert "k_partition, k_offset)" in table.create
        assert "non_replicated_deduplication_window = 10000" in table.create


def test_types_carry_what_the_models_mean() -> None:
    fills = types(topics.TRADE_FILLS)
    assert (fills["at"], fills["price"], fills["maker"], fills["trade_id"]) == (TIME, MONEY, "Bool", "Int64")
    assert fills["side"] == fills["instrument"] == "LowCardinality(String)"
    assert types(topics.RISK_VERDICTS)["equity"] == f"Nullable({MONEY})"
    assert types(topics.TRADE_ORDERS)["sent_at"] == f"Nullable({TIME})"
    assert types(topics.SIGNAL_DECISIONS)["regime"] == "LowCardinality(Nullable(String))"
    assert types(topics.MARKET_TRADES)["t"] == f"Array({TIME})"
    assert types(topics.MARKET_MARKS)["marks"].startswith("Array(Tuple(instrument LowCardinality(String), mark Float64")
    assert types(topics.POLICY_VERSIONS)["policy"] == "String"


def test_decisions_are_kept_for_ever_and_observations_longer_than_kafka_keeps_them() -> None:
    for topic in topics.ALL:
        table = TABLES[topic.table]
        if topic.decision:
            assert table.keep is None
        elif topic.retain:
            assert table.keep is not None
            assert table.keep > topic.retain


def test_a_new_topic_and_a_new_field_become_the_next_migration(tmp_path: Path) -> None:
    before = table_of(topics.TRADE_FILLS)
    first = ddl.write(tmp_path, (replace(before, fields=before.fields[:-1]),), [])
    second = ddl.write(tmp_path, (before, table_of(topics.MARKET_MARKS)), [view("v")])
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("0001_begin.sql", "0002_follow_the_registry.sql")
    added, table, made = statements(second.read_text())
    assert added.startswith("ALTER TABLE trade_fills ADD COLUMN IF NOT EXISTS `source` LowCardinality(String) AFTER")
    assert table.startswith("CREATE TABLE IF NOT EXISTS market_marks")
    assert made == view("v").statement
    assert ddl.write(tmp_path, (before, table_of(topics.MARKET_MARKS)), [view("v")]) is None


def test_only_what_stands_on_a_change_is_made_anew(tmp_path: Path) -> None:
    fills, marks = table_of(topics.TRADE_FILLS), table_of(topics.MARKET_MARKS)
    desk = [view("top", "middle"), view("middle", "trade_fills"), view("beside", "market_marks"), view("alone")]
    ddl.write(tmp_path, (replace(fills, fields=fills.fields[:-1]), marks), desk)
    known = ddl.recorded(tmp_path)

    def made(tables: tuple[Table, ...], views: list[View]) -> list[str]:
        return [text.split()[4] for text in ddl.changes(known, tables, views) if "VIEW" in text]

    before = (replace(fills, fields=fills.fields[:-1]), marks)
    assert made(before, desk) == []
    assert made((fills, marks), desk) == ["middle", "top"]
    assert made(before, [*desk[:3], replace(desk[3], about="told otherwise")]) == ["alone"]
    assert made(before, [desk[0], replace(desk[1], about="told otherwise"), *desk[2:]]) == ["middle", "top"]
    assert made(before, [*desk, view("new", "top")]) == ["new"]
    assert made((replace(before[0], keep=timedelta(days=3)), marks), desk) == []


def test_a_column_that_the_registry_forgets_stays(tmp_path: Path) -> None:
    before = table_of(topics.TRADE_FILLS)
    ddl.write(tmp_path, (before,), [])
    assert ddl.changes(ddl.recorded(tmp_path), (replace(before, fields=before.fields[:-1]),), []) == []


def test_retention_that_changes_is_altered(tmp_path: Path) -> None:
    before = table_of(topics.MARKET_MARKS)
    ddl.write(tmp_path, (before,), [])
    (told,) = ddl.changes(ddl.recorded(tmp_path), (replace(before, keep=timedelta(days=3)),), [])
    assert told == "ALTER TABLE market_marks MODIFY TTL toDateTime(k_time) + INTERVAL 3 DAY"


def test_another_order_is_refused_with_a_way_out(tmp_path: Path) -> None:
    before = table_of(topics.MARKET_MARKS)
    ddl.write(tmp_path, (before,), [])
    with pytest.raises(UserError, match="v2"):
        ddl.changes(ddl.recorded(tmp_path), (replace(before, order_by=("at",)),), [])
