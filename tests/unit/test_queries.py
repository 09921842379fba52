"""What a person sees of an answer."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from infra.errors import UserError
from infra.settings import load
from streams.queries import aligned, ask, has_format, question


def test_an_answer_is_a_table_without_a_trace_of_python() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    rows = [["BTCUSDT", Decimal("1E+2"), moment, None, {"trace_id": "a"}], ["ETH", Decimal("2.50"), moment, True, {}]]
    assert aligned(["instrument", "sum", "at", "x", "headers"], rows) == [
        "instrument  sum  at                       x     headers",
        'BTCUSDT     100  2026-01-02 03:04:05.678  NULL  {"trace_id": "a"}',
        "ETH         2.5  2026-01-02 03:04:05.678  true  {}",
    ]


@pytest.mark.parametrize(
    "query", ["DROP TABLE t", "SELECT 1; DROP TABLE t", "/* SELECT */ DROP TABLE t", "-- SELECT\nDROP TABLE t", " ", ""]
)
def test_only_one_question_is_asked(query: str) -> None:
    with pytest.raises(UserError, match="is not run"):
        ask(load(), query)


@pytest.mark.parametrize(
    "query", ["SELECT ';' FROM t;", "-- a;b\nWITH 1 AS x SELECT x", "(select `a;b` from t)", "DESCRIBE TABLE t", "show tables"]
)
def test_a_question_in_any_dress_goes_on(query: str) -> None:
    with pytest.raises(UserError, match="does not answer"):
        ask(load(clickhouse_url="http://127.0.0.1:1"), query)


def test_no_rows_still_say_what_was_asked() -> None:
    assert aligned(["n"], []) == ["n"]


def test_a_views_name_is_its_example_and_with_a_filter_its_rows() -> None:
    assert question("trades").startswith("SELECT created, instrument")
    assert question("trades", where="side = 'SHORT'", limit=3) == "SELECT * FROM trades WHERE side = 'SHORT' LIMIT 3"
    assert question(" SELECT 1 ") == " SELECT 1 "
    with pytest.raises(UserError, match="did you mean trades"):
        question("trade")
    with pytest.raises(UserError, match="belong to a view"):
        question("SELECT 1", limit=3)


def test_a_query_may_name_the_form_of_its_answer() -> None:
    assert has_format("SELECT 1 FORMAT Vertical")
    assert has_format("select 1\nformat JSONEachRow;")
    assert not has_format("SELECT 'a FORMAT Vertical'")
    assert not has_format("SELECT format FROM t")
