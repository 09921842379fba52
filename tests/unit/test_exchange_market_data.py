"""What the exchange makes of trades: candles of every interval, the tape, market time."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from infra.venue.local.clock import MarketClock
from infra.venue.local.klines import INTERVALS, MINUTE_MS, Candle, Candles, minutes_of
from infra.venue.local.market.base import CANDLE_MS, Candle5m, Trade
from infra.venue.local.tape import Tape

START = 1_767_225_600_000


def fold(trades: list[Trade], open_t: int, length: int) -> tuple[int, ...] | None:
    inside = [t for t in trades if open_t <= t.t < open_t + length * MINUTE_MS]
    if not inside:
        return None
    prices = [t.price for t in inside]
    return prices[0], max(prices), min(prices), prices[-1], sum(t.qty for t in inside), len(inside)


def shape(candle: Candle) -> tuple[int, ...]:
    return candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trades


def run(trades: list[Trade], until_t: int) -> tuple[Candles, list[tuple[str, int]]]:
    closed: list[tuple[str, int]] = []
    candles = Candles("BTCUSDT", START, 100, lambda _, interval, candle: closed.append((interval, candle.open_t)))
    for number, trade in enumerate(trades, start=1):
        candles.advance(trade.t)
        candles.add(trade, number)
    candles.advance(until_t)
    return candles, closed


moves = st.lists(st.tuples(st.integers(0, 200_000), st.integers(90, 110), st.integers(1, 9), st.booleans()), max_size=80)


@given(moves)
def test_every_interval_is_a_fold_of_the_trades(steps: list[tuple[int, int, int, bool]]) -> None:
    t, trades = START, []
    for wait, price, qty, maker in steps:
        t += wait
        trades.append(Trade("BTCUSDT", t, price, qty, maker))
    end_t = t + 20 * MINUTE_MS
    candles, _ = run(trades, end_t)
    for interval in ("1m", "5m", "15m"):
        rows = candles.range(interval, None, None, 1_000)
        length = INTERVALS[interval]
        assert [row.open_t for row in rows] == list(range(START, end_t + 1, length * MINUTE_MS))[: len(rows)]
        for before, row in zip([None, *rows], rows, strict=False):
            expected = fold(trades, row.open_t, length)
            if expected is None:
                close = before.close if before else 100
                assert shape(row) == (close, close, close, close, 0, 0)
            else:
                assert shape(row) == expected
    assert sum(row.volume for row in candles.range("1h", None, None, 100)) == sum(trade.qty for trade in trades)


def test_a_candle_closes_when_its_time_is_over_even_without_trades() -> None:
    _, closed = run([Trade("BTCUSDT", START + 1, 101, 1, False)], START + 5 * MINUTE_MS)
    assert [open_t for interval, open_t in closed if interval == "1m"] == [START + i * MINUTE_MS for i in range(5)]
    assert [open_t for interval, open_t in closed if interval == "5m"] == [START]


@given(
    st.integers(90, 110),
    st.integers(90, 110),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 10_000),
)
def test_minutes_of_the_past_give_their_five_minutes_back(open_: int, close: int, above: int, below: int, volume: int) -> None:
    high, low = max(open_, close) + above, min(open_, close) - below
    if not volume:
        high = low = close = open_
    past = Candle5m("BTCUSDT", START, open_, high, low, close, volume)
    minutes = list(minutes_of(past))
    assert [m.open_t for m in minutes] == [START + i * MINUTE_MS for i in range(5)]
    for before, minute in pairwise(minutes):
        assert minute.open == before.close
    candles = Candles("BTCUSDT", START + CANDLE_MS, close)
    candles.seed(minutes)
    (whole,) = candles.closed["5m"]
    assert (whole.open, whole.high, whole.low, whole.close, whole.volume) == (open_, high, low, close, volume)


def test_ranges_count_from_their_start_or_from_now() -> None:
    candles, _ = run([Trade("BTCUSDT", START + i * MINUTE_MS, 100 + i, 1, False) for i in range(10)], START + 10 * MINUTE_MS - 1)

    def opens(rows: list[Candle]) -> list[int]:
        return [(row.open_t - START) // MINUTE_MS for row in rows]

    assert opens(candles.range("1m", None, None, 3)) == [7, 8, 9]
    assert opens(candles.range("1m", START + 2 * MINUTE_MS, None, 3)) == [2, 3, 4]
    assert opens(candles.range("1m", None, START + 4 * MINUTE_MS, 2)) == [3, 4]
    assert opens(candles.range("1m", START + 1, START + 2 * MINUTE_MS, 10)) == [1, 2]
    assert opens(candles.range("1m", START + MINUTE_MS, START + 2 * MINUTE_MS, 10)) == [1, 2]


def test_the_tape_serves_by_id_and_by_time() -> None:
    tape = Tape()
    ids = [tape.add(Trade("BTCUSDT", START + i // 2, 100 + i, 1, False)) for i in range(10)]
    assert ids == list(range(1, 11))
    assert [row[0] for row in tape.rows(tape.from_id(4, 3))] == [4, 5, 6]
    assert [row[0] for row in tape.rows(tape.from_id(11, 3))] == []
    assert [row[0] for row in tape.rows(tape.between(START + 1, START + 2, 100))] == [3, 4, 5, 6]
    assert [row[0] for row in tape.rows(tape.between(None, None, 2))] == [9, 10]


def test_recorded_ids_begin_the_count() -> None:
    tape = Tape()
    assert tape.add(Trade("BTCUSDT", START, 100, 1, False, id=5_000_000_000)) == 5_000_000_000
    assert tape.add(Trade("BTCUSDT", START, 100, 1, False, id=5_000_000_001)) == 5_000_000_001
    taken_up = Tape(77)
    assert taken_up.add(Trade("BTCUSDT", START, 100, 1, False, id=5_000_000_002)) == 77


def test_market_time_runs_pauses_and_waits_for_a_frozen_process() -> None:
    clock = MarketClock(START, 300, 50.0)
    assert clock.at(51.0) == START + 300_000
    clock.pause(51.0)
    assert clock.at(60.0) == START + 300_000
    clock.resume(60.0)
    assert clock.at(60.5) == START + 450_000
    clock.slip(70.0, START + 460_000)
    assert clock.at(70.0) == START + 460_000
    assert round(clock.slipped_s, 2) == 9.47
