"""What a run says that did not add up: one cause, few lines."""

from __future__ import annotations

from typing import Any

from schemas import topics
from streams.report import failures


def report(lag: int = 0, **changed: Any) -> dict[str, Any]:
    names = [topic.name for topic in topics.ALL]
    return {
        "market": {"speed": 60},
        "topics": {name: {"produced": 100, "consumed": 100 - lag, "lag": lag} for name in names},
        "history": {name: {"records": 100, "rows": 100 - lag, "holes": 0, "doubles": 0} for name in names},
        "trades": {"log": 5, "history": 5},
        "fills": {"log": 5, "history": 5},
        "orders_by_client_id_max": 1,
        "orders_unfinished": {},
        "unprotected_worst_s": 0.0,
    } | changed


def test_a_run_that_adds_up_says_nothing() -> None:
    assert failures(report()) == []


def test_a_machine_that_does_not_keep_up_is_told_in_a_few_lines() -> None:
    told = failures(report(lag=7))
    assert len(told) == 7
    assert told[5] == f"{len(topics.ALL) - 5} more topics: lag {7 * (len(topics.ALL) - 5)} records"
    assert "choose a lower one" in told[6]


def test_a_hole_is_told_though_the_history_lags() -> None:
    name = topics.TRADE_FILLS.name
    late = report(lag=7)
    late["history"][name] = {"records": 100, "rows": 92, "holes": 1, "doubles": 0}
    assert f"{name}: 100 records, 92 rows, 1 holes, 0 doubles" in failures(late)


def test_what_the_lag_of_a_topic_does_not_explain_is_told() -> None:
    whole, short = topics.TRADE_FILLS.name, topics.TRADE_ORDERS.name
    late = report(lag=7)
    late["topics"][whole]["lag"] = 0
    late["history"][short]["rows"] = 92
    told = failures(late)
    assert f"{whole}: 100 records, 93 rows, 0 holes, 0 doubles" in told
    assert f"{short}: 100 records, 92 rows, 0 holes, 0 doubles" in told


def test_rows_that_are_missing_without_a_lag_are_told() -> None:
    name = topics.TRADE_FILLS.name
    found = report()
    found["history"][name] = {"records": 100, "rows": 92, "holes": 0, "doubles": 0}
    assert failures(found) == [f"{name}: 100 records, 92 rows, 0 holes, 0 doubles"]
