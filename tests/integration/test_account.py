"""The account worker between a real exchange and a real broker: every trade of ours stands in the log once, whatever happens."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import OrderRequest, StopRequest, VenueFill
from schemas import topics
from schemas.ids import Purpose, client_id
from schemas.trading import CorrectionKind, Fill, OrderType
from schemas.units import OrderSide

pytestmark = pytest.mark.broker
Eventually = Callable[[Callable[[], bool], float], None]
BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"


class Hand:
    """Orders of ours, sent past the wire that is cut."""

    def __init__(self, street: Any) -> None:
        self._street = street
        self._n = 0

    def market(self, instrument: str, side: OrderSide, quantity: str, purpose: Purpose = Purpose.ENTRY) -> str:
        self._n += 1
        name = client_id(purpose, self._n)

        async def place(venue: BinanceUsdm) -> None:
            reduce_only = purpose is Purpose.CLOSE
            order = OrderRequest(instrument, side, OrderType.MARKET, Decimal(quantity), name, reduce_only=reduce_only)
            await venue.place_order(order)

        self._with_venue(place)
        return name

    def stop(self, instrument: str, distance: str) -> str:
        self._n += 1
        name = client_id(Purpose.STOP, self._n)

        async def place(venue: BinanceUsdm) -> None:
            [position] = [p for p in await venue.positions() if p.instrument == instrument]
            tick = (await venue.filters())[instrument].tick
            level = (position.mark * (1 - Decimal(distance))) // tick * tick
            await venue.place_algo(StopRequest(instrument, OrderSide.SELL, level, name))

        self._with_venue(place)
        return name

    def trades(self) -> dict[str, list[VenueFill]]:
        found: dict[str, list[VenueFill]] = {}

        async def ask(venue: BinanceUsdm) -> None:
            for instrument in (BTC, ETH):
                found[instrument] = await venue.user_trades(instrument, from_id=1)

        self._with_venue(ask)
        return found

    def _with_venue(self, act: Any) -> None:
        async def run() -> None:
            async with BinanceUsdm(self._street.direct) as venue:
                await act(venue)

        asyncio.run(run())


def fills(street: Any) -> list[Fill]:
    return [event for _, event in street.records(topics.TRADE_FILLS)]


def unexplained(street: Any, instrument: str) -> bool:
    said = [event for _, event in street.records(topics.ACCOUNT_CORRECTIONS) if event.instrument == instrument]
    return any(event.kind is CorrectionKind.POSITION_UNEXPLAINED for event in said)


def check(street: Any, hand: Hand) -> None:
    """The log's fills are the exchange's trades, each once."""
    said = fills(street)
    assert len({fill.event_id for fill in said}) == len(said)
    for instrument, trades in hand.trades().items():
        mine = sorted((f for f in said if f.instrument == instrument), key=lambda f: f.trade_id)
        assert [(f.trade_id, f.price, f.quantity, f.fee, f.realized_pnl, f.side, f.at) for f in mine] == [
            (t.trade_id, t.price, t.quantity, t.fee, t.realized_pnl, t.side, t.at) for t in trades
        ]


@pytest.mark.timeout(150)
def test_torn_killed_and_told_twice_every_trade_is_written_once(street: Any, eventually: Eventually) -> None:
    hand = Hand(street)
    early = hand.market(ETH, OrderSide.BUY, "0.05")
    worker = street.worker("account")
    worker.wait_ready()
    eventually(lambda: len(fills(street)) == 1, 15)
    [first] = fills(street)
    assert (first.client_id, first.purpose, first.backfilled) == (early, Purpose.ENTRY, True)

    hand.market(BTC, OrderSide.BUY, "0.01")
    stop = hand.stop(BTC, "0.2")
    eventually(lambda: len(fills(street)) == 2, 10)
    assert not fills(street)[-1].backfilled or not fills(street)[0].backfilled

    street.wire.tear()
    closing = hand.market(BTC, OrderSide.SELL, "0.004", Purpose.CLOSE)
    hand.market(BTC, OrderSide.SELL, "0.002", Purpose.CLOSE)
    time.sleep(1)
    street.wire.mend()
    eventually(lambda: len(fills(street)) == 4, 15)
    missed = {fill.client_id: fill for fill in fills(street) if fill.instrument == BTC and fill.backfilled}
    assert missed[closing].purpose is Purpose.CLOSE

    worker.end(signal.SIGKILL)
    hand.market(ETH, OrderSide.SELL, "0.05", Purpose.CLOSE)
    worker = street.worker("account")
    worker.wait_ready()
    eventually(lambda: len(fills(street)) == 5, 20)

    street.by_hand("faults", route="*", kind="event-duplicate", for_s=5)
    hand.market(ETH, OrderSide.BUY, "0.05")
    eventually(lambda: len(fills(street)) == 6, 10)
    time.sleep(1)
    worker.end()
    assert worker.process.returncode == 0

    check(street, hand)
    updates = [event for _, event in street.records(topics.ACCOUNT_ORDER_UPDATES)]
    assert {(u.book, u.status, u.purpose) for u in updates if u.client_id == stop} == {("ALGO", "NEW", Purpose.STOP)}
    assert len({u.event_id for u in updates}) == len(updates)
    snapshots = [event for _, event in street.records(topics.ACCOUNT_SNAPSHOTS)]
    assert {p.instrument: p.quantity for p in snapshots[-1].positions} == {BTC: Decimal("0.004"), ETH: Decimal("0.05")}
    assert [s.at for s in snapshots] == sorted(s.at for s in snapshots)


@pytest.mark.timeout(90)
def test_a_trade_that_the_stream_never_tells_is_found_by_the_position_it_moved(street: Any, eventually: Eventually) -> None:
    hand = Hand(street)
    worker = street.worker("account", QT_SNAPSHOT_S="0.5")
    worker.wait_ready()
    hand.market(BTC, OrderSide.BUY, "0.01")
    eventually(lambda: len(fills(street)) == 1, 15)
    street.by_hand("faults", route="ORDER_TRADE_UPDATE", kind="event-drop", for_s=2)
    hand.market(BTC, OrderSide.BUY, "0.01")
    eventually(lambda: len(fills(street)) == 2, 15)
    assert fills(street)[-1].backfilled
    worker.end()
    check(street, hand)


@pytest.mark.timeout(150)
def test_an_instrument_whose_trades_are_refused_costs_only_itself(street: Any, eventually: Eventually) -> None:
    hand = Hand(street)
    worker = street.worker("account", QT_SNAPSHOT_S="0.5")
    worker.wait_ready()
    for instrument in (BTC, ETH):
        hand.market(instrument, OrderSide.BUY, "0.1")
    eventually(lambda: len(fills(street)) == 2, 15)
    street.by_hand("faults", route="GET userTrades", kind="refuse", code=-1121, only="BTCUSDT", for_s=600)
    street.wire.tear()
    for instrument in (BTC, ETH):
        hand.market(instrument, OrderSide.SELL, "0.01", Purpose.CLOSE)
    street.wire.mend()
    eventually(lambda: [f.instrument for f in fills(street)].count(ETH) == 2, 15)
    for instrument in (BTC, ETH):
        hand.market(instrument, OrderSide.SELL, "0.02", Purpose.CLOSE)
    eventually(lambda: len(fills(street)) == 5, 15)
    assert {f.trade_id for f in fills(street) if f.instrument == BTC} == {1, 3}, "what the stream has told of it"
    eventually(lambda: unexplained(street, BTC), 15)
    street.by_hand("faults", method="DELETE")
    eventually(lambda: len(fills(street)) == 6, 60)
    worker.end()
    check(street, hand)
    assert not unexplained(street, ETH)


@pytest.mark.timeout(120)
def test_positions_are_compared_though_the_first_instrument_has_no_market_time(street: Any, eventually: Eventually) -> None:
    hand = Hand(street)
    street.by_hand("faults", route="GET premiumIndex", kind="refuse", code=-1121, only="BTCUSDT", for_s=600)
    worker = street.worker("account", QT_SNAPSHOT_S="0.5")
    worker.wait_ready()
    hand.market(ETH, OrderSide.BUY, "0.1")
    eventually(lambda: len(fills(street)) == 1, 15)
    street.by_hand("faults", route="ORDER_TRADE_UPDATE", kind="event-drop", for_s=2)
    hand.market(ETH, OrderSide.BUY, "0.1")
    eventually(lambda: len(fills(street)) == 2, 20)
    worker.end()
    check(street, hand)
    assert [event for _, event in street.records(topics.ACCOUNT_SNAPSHOTS)]
