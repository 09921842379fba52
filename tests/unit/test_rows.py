"""Every record becomes a row, the same one whenever it is made."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from infra.clickhouse.rows import Record, Rows
from infra.clickhouse.tables import table_of
from schemas import topics
from schemas.market import Tick
from schemas.operations import PolicyVersion
from schemas.policy import Policy
from schemas.topics import Topic
from schemas.trading import AccountSnapshot, HeldPosition

SNAPSHOT = AccountSnapshot(
    event_id="s",
    at=1_722_470_400_123,
    account="sim",
    wallet=Decimal("1.1234567890123456789"),
    equity=Decimal("2"),
    available=Decimal("-3"),
    unrealized_pnl=Decimal("0"),
    positions=[
        HeldPosition(
            instrument="binance.usdm.BTCUSDT", quantity=Decimal("-1.5"), entry_price=Decimal(3), unrealized_pnl=Decimal("-1E-12")
        )
    ],
)


def row(topic: Topic, value: bytes | None) -> dict[str, Any]:
    table = table_of(topic)
    record = Record(3, 17, 1_722_470_400_500, b"key", value, [("trace_id", b"t"), ("odd", None)])
    columns, _ = Rows(table).columns([record])
    return {column.name: found[0] for column, found in zip(table.columns, columns, strict=True)}


def test_a_row_says_where_its_record_stands() -> None:
    found = row(topics.ACCOUNT_SNAPSHOTS, SNAPSHOT.encode())
    assert (found["k_partition"], found["k_offset"], found["k_time"], found["k_key"]) == (3, 17, 1_722_470_400_500, "key")
    assert found["k_headers"] == {"trace_id": "t", "odd": ""}
    assert (found["k_tombstone"], found["k_error"]) == (False, "")


def test_money_is_cut_to_what_the_column_holds_and_never_rounded_up() -> None:
    found = row(topics.ACCOUNT_SNAPSHOTS, SNAPSHOT.encode())
    assert found["wallet"] == Decimal("1.123456789012")
    assert found["positions"] == [("binance.usdm.BTCUSDT", Decimal("-1.5"), Decimal(3), Decimal("-0.000000000001"))]


def test_a_field_that_another_event_of_the_topic_has_is_empty() -> None:
    found = row(topics.MARKET_TRADES, Tick(event_id="t", at=5, partition=3, boundary=True, feed_age_ms=9).encode())
    assert (found["type"], found["boundary"], found["instrument"], found["t"]) == ("market.tick", True, "", [])


def test_a_decision_keeps_its_bytes_and_an_observation_does_not() -> None:
    value = PolicyVersion(event_id="p", at=1, version=1, digest="d", changed=[], reason="", actor="", policy=Policy()).encode()
    found = row(topics.POLICY_VERSIONS, value)
    assert found["raw"] == value.decode()
    assert found["policy"].startswith('{"name"')
    assert row(topics.ACCOUNT_SNAPSHOTS, SNAPSHOT.encode())["raw"] == ""


def test_a_tombstone_is_a_row() -> None:
    found = row(topics.TRADE_POSITIONS, None)
    assert (found["k_tombstone"], found["k_key"], found["k_error"], found["instrument"]) == (True, "key", "", "")


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (b"\xff\xfe", "base64://4="),
        (b"", ""),
        (b'{"event_id":"x"}', '{"event_id":"x"}'),
        (b'{"event_id":"\\ud800","type":"t","at":1}', '{"event_id":"\\ud800","type":"t","at":1}'),
        (b'{"event_id":"x","type":"t","at":1,"wallet":"NaN"}', '{"event_id":"x","type":"t","at":1,"wallet":"NaN"}'),
        (b'{"event_id":"x","type":"t","at":1,"wallet":"1E+26"}', '{"event_id":"x","type":"t","at":1,"wallet":"1E+26"}'),
        (b'{"event_id":"x","type":"t","at":99999999999999999999}', '{"event_id":"x","type":"t","at":99999999999999999999}'),
    ],
)
def test_what_is_no_event_is_a_row_with_its_bytes_and_the_reason(value: bytes, raw: str) -> None:
    found = row(topics.ACCOUNT_SNAPSHOTS, value)
    assert (found["k_offset"], found["raw"], found["event_id"], found["wallet"]) == (17, raw, "", 0)
    assert found["k_error"]


def test_a_newer_message_with_a_field_more_is_read() -> None:
    value = SNAPSHOT.encode().replace(b'{"event_id"', b'{"news":[1,{"a":2}],"event_id"')
    assert row(topics.ACCOUNT_SNAPSHOTS, value)["k_error"] == ""
