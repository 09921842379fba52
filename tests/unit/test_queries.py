"""What a person sees of an answer."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from streams.queries import aligned


def test_an_answer_is_a_table_without_a_trace_of_python() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    rows = [["BTCUSDT", Decimal("1E+2"), moment, None, {"trace_id": "a"}], ["ETH", Decimal("2.50"), moment, True, {}]]
    assert aligned(["instrument", "sum", "at", "x", "headers"], rows) == [
        "instrument   sum  at                       x     headers",
        'BTCUSDT      100  2026-01-02 03:04:05.678  NULL  {"trace_id": "a"}',
        "ETH         2.50  2026-01-02 03:04:05.678  true  {}",
    ]


def test_no_rows_still_say_what_was_asked() -> None:
    assert aligned(["n"], []) == ["n"]
