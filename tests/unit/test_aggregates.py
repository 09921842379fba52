"""What ClickHouse adds up is declared so that it can be exact, thrown away by day, and made again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from infra.clickhouse import aggregates, ddl
from infra.clickhouse.backup import destination
from infra.errors import UserError
from schemas import topics

DECLARED = {one.name: one for one in aggregates.declared()}


@pytest.mark.parametrize("name", DECLARED)
def test_an_aggregate_drops_what_is_repeated_and_stands_by_the_day_that_rows_came_in(name: str) -> None:
    one = DECLARED[name]
    columns = re.findall(r"^    (\w+) ", one.create, re.M)
    assert "non_replicated_deduplication_window" in one.create
    assert "PARTITION BY toYYYYMMDD(ingested)" in one.create
    assert one.feeds
    for feed in one.feeds:
        assert feed.source in {topic.table for topic in topics.ALL}
        named = re.findall(r"\bAS (\w+)(?=,|\nFROM)", feed.select.split("\nARRAY JOIN")[0].split("\nWHERE")[0])
        assert named == columns, f"{feed.name}: it is filled by place when it is made again"
        assert f"toDate({feed.alias}.k_time) AS ingested" in feed.select


def test_days_are_added_up_again_from_their_rows_alone() -> None:
    (statement,) = DECLARED["pnl_1d"].fill("2026-01-31")
    assert statement.startswith("INSERT INTO pnl_1d SELECT")
    assert "FROM (SELECT * FROM trade_closed WHERE toDate(k_time) >= '2026-01-31') AS c\n" in statement


def test_an_aggregate_that_changes_is_refused_with_a_way_out(tmp_path: Path) -> None:
    one = DECLARED["pnl_1d"]
    ddl.write(tmp_path, (), [], (one,))
    assert ddl.changes(ddl.recorded(tmp_path), (), [], (one,)) == []
    with pytest.raises(UserError, match="another name"):
        ddl.changes(ddl.recorded(tmp_path), (), [], (replace(one, create=one.create + " "),))


def test_a_backup_goes_to_a_file_or_where_clickhouse_is_told() -> None:
    assert destination("monday-1") == "File('monday-1')"
    assert destination("Disk('backups', 'monday')") == "Disk('backups', 'monday')"
    for name in ("", "../up", "a'b", "Null(1); DROP DATABASE quantum"):
        with pytest.raises(UserError, match="no place for a backup"):
            destination(name)
