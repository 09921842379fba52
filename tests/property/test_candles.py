"""The same trades give the same candles, bit for bit: however they are cut into frames, whenever ticks come, after any restart."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import candles
from processors.candles import INTERVALS, MINUTE_MS, Closed, Fold

T0 = 1_722_470_400_000
Trade = tuple[int, float, float, int]


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[Trade], int]:
    """(trades, end): minutes full of trades, or hours with a few."""
    end = T0 + draw(st.sampled_from([10, 65, 500])) * MINUTE_MS
    moment = st.integers(T0, end + 2 * MINUTE_MS)
    trade = st.tuples(moment, st.floats(0.1, 1e5), st.floats(1e-6, 1e4), st.integers(0, 1))
    return sorted(draw(st.lists(trade, max_size=60)), key=lambda trade: trade[0]), end


def naive(trades: Sequence[Trade], until: int, price: float, next_id: int) -> list[Closed]:
    """Minutes by looking at all trades for each of them, longer candles by looking at all candles of the interval below."""
    found: dict[str, list[Closed]] = {}
    below = ""
    for interval, length in INTERVALS.items():
        last, close, rows = next_id - 1, price, []
        for open_at in range(T0, until - length + 1, length):
            if below:
                parts = [c for c in found[below] if open_at <= c.open_at < open_at + length and not c.flat]
            else:
                ids = [n for n, trade in enumerate(trades) if open_at <= trade[0] < open_at + length]
                parts = [one(next_id + n, *trades[n]) for n in ids]
            v = quote = bought = 0.0
            for c in parts:
                v, quote, bought = v + c.v, quote + c.quote_volume, bought + c.taker_buy_volume
            if parts:
                first, close, last = parts[0], parts[-1].c, parts[-1].last_id
                row = Closed(
                    interval, open_at, open_at + length, first.o, max(c.h for c in parts), min(c.l for c in parts), close,
                    v, quote, bought, sum(c.trades for c in parts), first.first_id, last, False, False, 0,
                )  # fmt: skip
            else:
                row = Closed(
                    interval, open_at, open_at + length, close, close, close, close,
                    0.0, 0.0, 0.0, 0, last + 1, last, True, False, 0,
                )  # fmt: skip
            rows.append(row)
        found[interval], below = rows, interval
    return sorted((c for rows in found.values() for c in rows), key=lambda c: (c.close_at, c.close_at - c.open_at))


def one(number: int, t: int, p: float, q: float, m: int) -> Closed:
    """A trade as the smallest candle there is."""
    return Closed("", t, t, p, p, p, p, q, p * q, 0.0 if m else q, 1, number, number, False, False, 0)


@settings(deadline=None, max_examples=150)
@given(market=markets(), data=st.data())
def test_any_cut_into_frames_gives_the_candles_of_a_naive_aggregation(market: tuple[list[Trade], int], data: st.DataObject) -> None:
    trades, until = market
    fold = candles.seed(Fold(), T0, 77.0, next_id=5)
    closed: list[Closed] = []
    position = 0
    while position < len(trades):
        end = min(len(trades), position + data.draw(st.integers(1, 20)))
        begin = max(0, position - data.draw(st.integers(0, 3)))  # a frame may come with trades that have been seen
        t, p, q, m = (list(column) for column in zip(*trades[begin:end], strict=True))
        fold = candles.trades(fold, 5 + begin, t, p, q, m)
        position = end
        if data.draw(st.booleans()):
            watermark = trades[position][0] if position < len(trades) else t[-1]
            fold, new = candles.close(fold, min(watermark, until))
            closed += new
        if data.draw(st.booleans()):
            fold = msgspec.msgpack.decode(msgspec.msgpack.encode(fold), type=Fold)
    fold, new = candles.close(fold, until)
    assert closed + new == naive(trades, until, 77.0, 5)
    assert fold.missed == 0
