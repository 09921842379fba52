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

TRADES = st.lists(
    st.tuples(
        st.integers(0, 12 * MINUTE_MS - 1).map(lambda t: T0 + t),
        st.floats(0.1, 1e5),
        st.floats(1e-6, 1e4),
        st.integers(0, 1),
    ),
    max_size=60,
)


def naive(trades: Sequence[Trade], until: int, price: float, next_id: int) -> list[Closed]:
    """Candles by looking at all trades for each of them."""
    found = []
    for interval, length in INTERVALS.items():
        last = next_id - 1
        close = price
        for open_at in range(T0, until, length):
            if open_at + length > until:
                break
            mine = [(next_id + i, *trade) for i, trade in enumerate(trades) if open_at <= trade[0] < open_at + length]
            v = quote = bought = 0.0
            for _, _, p, q, m in mine:
                v, quote, bought = v + q, quote + p * q, bought + (0.0 if m else q)
            if mine:
                prices = [p for _, _, p, _, _ in mine]
                row = Closed(
                    interval, open_at, open_at + length, prices[0], max(prices), min(prices), prices[-1],
                    v, quote, bought, len(mine), mine[0][0], mine[-1][0], False, False, 0,
                )  # fmt: skip
                close, last = prices[-1], mine[-1][0]
            else:
                row = Closed(
                    interval, open_at, open_at + length, close, close, close, close,
                    0.0, 0.0, 0.0, 0, last + 1, last, True, False, 0,
                )  # fmt: skip
            found.append(row)
    return sorted(found, key=lambda c: (c.close_at, c.close_at - c.open_at))


@settings(deadline=None, max_examples=150)
@given(moments=TRADES, data=st.data())
def test_any_cut_into_frames_gives_the_candles_of_a_naive_aggregation(moments: list[Trade], data: st.DataObject) -> None:
    trades = sorted(moments, key=lambda trade: trade[0])
    until = T0 + 10 * MINUTE_MS
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
