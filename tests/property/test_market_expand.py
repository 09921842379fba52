"""Whatever the candle: its trades add up to it, in time, with at least one step each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.venue.local.market.base import CANDLE_MS, SYMBOLS, Candle5m, Mark, Trade
from infra.venue.local.market.expand import aggregate, expand, path, pivots

T0 = 1_767_225_600_000


@st.composite
def a_candle(draw: st.DrawFn) -> Candle5m:
    symbol = draw(st.sampled_from(sorted(SYMBOLS)))
    low = draw(st.integers(1, 2_000_000))
    high = low + draw(st.one_of(st.integers(0, 3), st.integers(0, 100_000)))
    inside = st.one_of(st.just(low), st.just(high), st.integers(low, high))
    flat_volume = Candle5m(symbol, T0 + draw(st.integers(0, 10**6)) * CANDLE_MS, draw(inside), high, low, draw(inside), 1)
    least = len(pivots(flat_volume))
    volume = draw(st.one_of(st.integers(least, least + 60), st.integers(least, 10**12)))
    c = flat_volume
    return Candle5m(c.symbol, c.open_t, c.open, c.high, c.low, c.close, volume)


@given(a_candle(), st.integers(0, 2**32), st.integers(1, 120))
def test_trades_add_up_to_their_candle(candle: Candle5m, seed: int, count: int) -> None:
    p = path(candle, seed=seed, trades=count)
    trades = [
        Trade(candle.symbol, *row)
        for row in zip(p.t.tolist(), p.price.tolist(), p.qty.tolist(), p.buyer_is_maker.tolist(), strict=True)
    ]
    assert aggregate(trades, candle.open_t) == candle
    assert all(trade.qty >= 1 for trade in trades)
    assert len(trades) == max(len(pivots(candle)), min(max(count, 4), candle.volume))


@given(a_candle(), st.integers(0, 2**32))
def test_events_carry_the_same_trades_in_order(candle: Candle5m, seed: int) -> None:
    events = expand(candle, SYMBOLS[candle.symbol], seed=seed)
    times = [event.t for event in events]
    assert times == sorted(times)
    assert candle.open_t <= times[0]
    assert times[-1] < candle.open_t + CANDLE_MS
    assert aggregate([event for event in events if isinstance(event, Trade)], candle.open_t) == candle
    assert any(isinstance(event, Mark) for event in events)
