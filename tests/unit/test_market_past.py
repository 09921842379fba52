"""Where the gateway begins, and how missed trades of several instruments become one stream in time order."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import UserError
from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import Kline, PublicTrade
from schemas.ids import partition_of
from schemas.units import Source
from streams import market_past
from streams.market_past import INTERVAL_MS, MODEST, begin, missed
from streams.market_tail import Last, Tail

BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"
T0 = 1_767_225_600_000
NOW = T0 + 2000 * INTERVAL_MS + 7


class Venue:
    """An exchange with a tape: trades by instrument, `per_candle` trades in each past candle."""

    def __init__(self, tape: dict[str, list[PublicTrade]], per_candle: int = 10) -> None:
        self.tape = tape
        self.per_candle = per_candle
        self.pages = 0

    async def market_ms(self, instrument: str) -> int:
        return NOW

    async def klines(self, instrument: str, interval: str, limit: int) -> list[Kline]:
        newest = NOW // INTERVAL_MS * INTERVAL_MS
        return [Kline(newest - n * INTERVAL_MS, 1, 2, 0.5, 1.5, 3, self.per_candle, 4.5, 1) for n in reversed(range(limit))]

    async def trades(
        self, instrument: str, *, from_id: int | None = None, start_at: int | None = None, limit: int = 1000
    ) -> list[PublicTrade]:
        self.pages += 1
        tape = self.tape[instrument]
        if from_id is not None:
            return [trade for trade in tape if trade.id >= from_id][:limit]
        if start_at is not None:
            return [trade for trade in tape if trade.t >= start_at][:limit]
        return tape[-limit:]


def as_venue(venue: Venue) -> BinanceUsdm:
    return cast(BinanceUsdm, venue)


def tape(times: list[int]) -> list[PublicTrade]:
    return [PublicTrade(n + 1, t, 100.0, 1.0, False) for n, t in enumerate(sorted(times))]


LAST_CLOSE = NOW // INTERVAL_MS * INTERVAL_MS


async def test_a_fresh_log_begins_behind_a_thousand_closed_candles() -> None:
    venue = Venue({BTC: tape([LAST_CLOSE - 5, LAST_CLOSE + 1, LAST_CLOSE + 3])})
    start = await begin(as_venue(venue), Tail(), [BTC], Source.SYNTHETIC)
    [history] = start.histories
    assert len(history.open_at) == 1000
    assert history.at == history.open_at[-1] + INTERVAL_MS == LAST_CLOSE == start.watermark
    assert history.next_id == start.next_ids[BTC] == 2
    assert [trade.id for trade in start.pages[BTC]] == [2, 3]
    assert not history.generated


async def test_where_nothing_has_traded_since_the_next_id_follows_the_newest() -> None:
    start = await begin(as_venue(Venue({BTC: tape([LAST_CLOSE - 5])})), Tail(), [BTC], Source.TICKS)
    assert start.next_ids == {BTC: 2}
    assert start.histories[0].generated
    nothing = await begin(as_venue(Venue({BTC: []})), Tail(), [BTC], Source.SYNTHETIC)
    assert nothing.next_ids == {BTC: 1}


def tail(at: int) -> Tail:
    return Tail({BTC: Last(41, 99.0)}, {partition_of(BTC): at})


async def test_a_short_absence_goes_on_behind_the_log_without_asking_for_a_trade() -> None:
    venue = Venue({BTC: []})
    start = await begin(as_venue(venue), tail(NOW - 60_000), [BTC], Source.SYNTHETIC)
    assert (start.next_ids, start.prices, start.watermark, start.histories) == ({BTC: 41}, {BTC: 99.0}, NOW - 60_000, [])
    assert venue.pages == 0


@pytest.mark.parametrize(("absent_candles", "per_candle"), [(600, 1), (100, MODEST // 100 + 1)])
async def test_a_long_absence_begins_anew(absent_candles: int, per_candle: int) -> None:
    venue = Venue({BTC: tape([LAST_CLOSE + 1])}, per_candle)
    start = await begin(as_venue(venue), tail(NOW - absent_candles * INTERVAL_MS), [BTC], Source.SYNTHETIC)
    assert len(start.histories) == 1


async def test_an_instrument_that_is_new_begins_beside_others_that_go_on() -> None:
    venue = Venue({BTC: [], ETH: tape([LAST_CLOSE + 1])})
    start = await begin(as_venue(venue), tail(NOW - 3 * INTERVAL_MS), [BTC, ETH], Source.SYNTHETIC)
    assert [history.instrument for history in start.histories] == [ETH]
    assert start.watermark == NOW - 3 * INTERVAL_MS


async def test_a_log_ahead_of_the_exchange_is_a_mistake() -> None:
    with pytest.raises(UserError, match="ahead of the exchange"):
        await begin(as_venue(Venue({BTC: []})), tail(NOW + 1), [BTC], Source.SYNTHETIC)


@given(st.lists(st.integers(0, 60), max_size=40), st.lists(st.integers(0, 60), max_size=40), st.integers(1, 7), st.booleans())
async def test_missed_trades_come_whole_and_in_time_order(btc: list[int], eth: list[int], page: int, told: bool) -> None:
    until = 50
    venue = Venue({BTC: tape(btc), ETH: tape(eth)})
    known: dict[str, Any] = {BTC: venue.tape[BTC][:page]} if told else {}
    before, market_past.PAGE = market_past.PAGE, page
    try:
        found = [item async for batch in missed(as_venue(venue), {BTC: 1, ETH: 1}, until, known) for item in batch]
    finally:
        market_past.PAGE = before
    assert [trade.t for _, trade in found] == sorted(trade.t for _, trade in found)
    for name, tape_ in venue.tape.items():
        assert [trade for name_, trade in found if name_ == name] == [trade for trade in tape_ if trade.t < until]
