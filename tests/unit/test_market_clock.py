"""A record of a far future is poison, a street that was off for a week is not: the ticks tell them apart."""

from __future__ import annotations

from decimal import Decimal

import pytest

from schemas import hot, topics
from schemas.trading import Closed, ExitReason
from schemas.units import Side, Source
from streams.market_clock import STEP_MS, NewestTick, Place, Word, judge, time_of
from streams.shares import Ledger, position

NOW, DAY = 1_764_158_400_000, 86_400_000
FAR = 4_080_000_000_000
BTC = "binance.usdm.BTCUSDT"
MARKS = Place("market.marks", 3, 10, 5_000)


def tick(at: int, written_ms: int = 6_000, offset: int = 100) -> NewestTick:
    return NewestTick(at, Place("market.trades", 3, offset, written_ms))


@pytest.mark.parametrize("at", [0, NOW - 9 * DAY, NOW, NOW + STEP_MS])
def test_what_is_not_far_ahead_of_what_we_know_needs_no_proof(at: int) -> None:
    assert judge(at, NOW, MARKS, None) is Word.TAKE


def test_a_record_of_2099_is_poison_as_soon_as_a_tick_stands_behind_it() -> None:
    assert judge(FAR, NOW, MARKS, tick(NOW, written_ms=4_999)) is Word.WAIT
    assert judge(FAR, NOW, MARKS, tick(NOW + 1000, written_ms=5_000)) is Word.POISON


def test_a_street_that_was_off_for_a_week_goes_on() -> None:
    week = NOW + 7 * DAY
    assert judge(week, NOW, MARKS, tick(NOW, written_ms=10)) is Word.WAIT, "the ticks are on their way"
    assert judge(week, NOW, MARKS, tick(week - 1000, written_ms=20)) is Word.TAKE, "they have come, before the record or behind it"
    assert judge(week, NOW, MARKS, tick(week + 1000)) is Word.TAKE


def test_old_ticks_of_a_gateway_that_makes_good_two_days_do_not_deny_a_fill_of_now() -> None:
    fill = Place("trade.fills", 3, 7, 5_000)
    assert judge(NOW + 42 * 3_600_000, NOW, fill, tick(NOW)) is Word.TAKE


def test_the_first_records_of_a_log_have_no_tick_to_be_held_against() -> None:
    assert judge(NOW, 0, Place("market.trades", 3, 0, 5_000), None) is Word.DOUBT


def test_a_tick_is_held_against_the_tick_behind_it() -> None:
    far, after = Place("market.trades", 3, 100, 6_000), Place("market.trades", 3, 99, 6_000)
    assert judge(FAR, NOW, far, tick(FAR, offset=100)) is Word.WAIT, "itself proves nothing"
    assert judge(FAR, NOW, far, tick(NOW, offset=101)) is Word.POISON
    assert judge(FAR, NOW, after, tick(NOW, offset=98)) is Word.WAIT


def test_the_time_of_a_record_is_the_latest_that_it_names() -> None:
    frame = hot.TradeFrame("f", "market.trade-frame", NOW, BTC, 1, [NOW, FAR], [1.0, 1.0], [1.0, 1.0], [0, 0], "synthetic")
    assert time_of(frame) == FAR
    history = hot.CandleHistory(
        "h", "market.candle-history", NOW, BTC, "5m", [NOW], [1.0], [1.0], [1.0], [1.0], [1.0], 7, "synthetic"
    )
    assert time_of(history) == NOW
    closed = Closed(
        event_id="c",
        at=NOW,
        instrument=BTC,
        account="sim",
        position_id="p",
        side=Side.LONG,
        quantity=Decimal(1),
        entry_price=Decimal(1),
        exit_price=Decimal(1),
        opened_at=NOW,
        closed_at=FAR,
        realized_pnl=Decimal(0),
        fees=Decimal(0),
        fills=2,
        exit_reason=ExitReason.STOP,
        entry_client_id="e",
        exit_client_id="x",
        source=Source.SYNTHETIC,
    )
    assert time_of(closed) == FAR


def test_peoples_records_have_the_walls_time_and_are_held_against_no_tick() -> None:
    walls = {topic.name for topic in topics.ALL if topic.wall}
    people = {"control.commands", "control.audit", "policy.versions", "model.versions"}
    assert walls == people | {"health.heartbeats", "dead.letters"}


def test_a_successor_knows_what_time_its_partition_has_come_to() -> None:
    ledger = Ledger()
    record = position(3, {"trade.fills": 8}, 2, 1, NOW)
    ledger.add(record.key, record.value, {}, 0)
    assert (ledger.next, ledger.market_at) == ({"trade.fills": 8}, NOW)
    old = Ledger()
    old.add(record.key, b'{"v":1,"epoch":1,"seq":0,"next":{"trade.fills":8}}', {}, 0)
    assert old.market_at == 0
