"""A candle told in trades is that candle again."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.venue.local.market.base import CANDLE_MS, SYMBOLS, Candle5m, Mark, Quote, Trade
from infra.venue.local.market.candles import CandleMarket
from infra.venue.local.market.expand import aggregate, expand, path

BTC = SYMBOLS["BTCUSDT"]
T0 = 1_767_225_600_000
RISING = Candle5m("BTCUSDT", T0, 960_000, 962_000, 957_000, 961_000, 245_000)
FALLING = Candle5m("BTCUSDT", T0, 961_000, 962_000, 957_000, 960_000, 245_000)


def test_the_same_candle_and_seed_give_the_same_events() -> None:
    assert expand(RISING, BTC, seed=7) == expand(RISING, BTC, seed=7)
    assert expand(RISING, BTC, seed=7) != expand(RISING, BTC, seed=8)


def test_a_rising_candle_visits_its_low_first_and_a_falling_one_its_high() -> None:
    for seed in range(200):
        rising = path(RISING, seed=seed).price.tolist()
        assert rising.index(RISING.low) < rising.index(RISING.high)
        falling = path(FALLING, seed=seed).price.tolist()
        assert falling.index(FALLING.high) < falling.index(FALLING.low)


def test_events_stand_in_time_inside_their_candle() -> None:
    events = expand(RISING, BTC, seed=7)
    times = [event.t for event in events]
    assert times == sorted(times)
    assert times[0] >= T0
    assert times[-1] < T0 + CANDLE_MS


def test_a_trade_meets_the_quote_before_it_and_the_book_is_never_crossed() -> None:
    quote: Quote | None = None
    for event in expand(RISING, BTC, seed=7, trades=200):
        if isinstance(event, Quote):
            quote = event
            assert 0 < quote.bid < quote.ask
            assert min(quote.bid_qty, quote.ask_qty) >= 1
        elif isinstance(event, Trade):
            assert quote is not None
            assert event.price == (quote.bid if event.buyer_is_maker else quote.ask)


def test_marks_follow_the_path_closely() -> None:
    last = RISING.open
    marks = 0
    for event in expand(RISING, BTC, seed=7):
        if isinstance(event, Trade):
            last = event.price
        elif isinstance(event, Mark):
            marks += 1
            assert abs(event.mark / BTC.tick - last) < RISING.high - RISING.low
            assert RISING.low * BTC.tick <= event.mark <= RISING.high * BTC.tick
            assert event.next_funding_t > event.t
    assert 20 <= marks <= 30


def test_a_candle_without_volume_trades_nothing_and_keeps_its_mark() -> None:
    still = Candle5m("BTCUSDT", T0, 960_000, 960_000, 960_000, 960_000, 0)
    events = expand(still, BTC, seed=7)
    assert {type(event) for event in events} == {Mark}
    assert {event.mark for event in events if isinstance(event, Mark)} == {960_000 * BTC.tick}


@pytest.mark.parametrize(
    "candle",
    [
        Candle5m("BTCUSDT", T0, 100, 110, 90, 105, 0),  # moves without volume
        Candle5m("BTCUSDT", T0, 100, 110, 90, 105, 3),  # four prices, three steps
        Candle5m("BTCUSDT", T0, 100, 99, 90, 95, 50),  # open above its high
        Candle5m("BTCUSDT", T0, 100, 110, 0, 105, 50),  # a price of nothing
    ],
)
def test_a_candle_that_no_trades_can_make_is_refused(candle: Candle5m) -> None:
    with pytest.raises(ValueError, match="BTCUSDT candle"):
        path(candle, seed=1)


def test_real_candles_of_every_symbol_come_back_exactly(shared_data: Path) -> None:
    file = shared_data / "klines" / "usdm_5m.parquet"
    if not file.is_file():
        pytest.skip(f"no recorded candles at {file}")
    market = CandleMarket(file, seed=3, history=13_000)
    assert {symbol.name for symbol in market.symbols} == set(SYMBOLS)
    for i, candle in enumerate(market.history()):
        if i % 97 == 0:
            trades = [event for event in expand(candle, SYMBOLS[candle.symbol], seed=3) if isinstance(event, Trade)]
            assert len(trades) == 40
            assert aggregate(trades, candle.open_t) == candle
