"""Positions in instruments that no setting names: the street tells their fills, plans them, protects them, and marks them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import VenueOrder
from schemas import topics
from schemas.ids import Purpose, purpose_of
from schemas.trading import OrderType

pytestmark = pytest.mark.broker
Eventually = Callable[[Callable[[], bool], float], None]
BTC, ETH, SOL = (f"binance.usdm.{name}USDT" for name in ("BTC", "ETH", "SOL"))


def resting(street: Any) -> list[VenueOrder]:
    async def ask() -> list[VenueOrder]:
        async with BinanceUsdm(street.direct) as venue:
            return [*await venue.open_algo_orders(), *await venue.open_orders()]

    return asyncio.run(ask())


def covered(street: Any) -> set[str]:
    """Instruments with a net of the street's own, not the guardian's."""
    return {o.instrument for o in resting(street) if o.close_position and purpose_of(o.client_id) is Purpose.STOP}


def laddered(street: Any) -> set[str]:
    return {o.instrument for o in resting(street) if o.reduce_only and o.type is OrderType.LIMIT}


def marked(street: Any) -> list[set[str]]:
    return [{mark.instrument for mark in event.marks} for _, event in street.records(topics.MARKET_MARKS)]


@pytest.mark.timeout(300)
def test_what_another_hand_opens_outside_of_the_settings_is_adopted_protected_and_let_go(
    street: Any, eventually: Eventually
) -> None:
    street.by_hand("trade", symbol="SOLUSDT", side="SELL", quantity="1")
    workers = [street.worker(name, QT_SYMBOLS="BTCUSDT") for name in ("market", "account", "positions", "exits", "execution")]
    for worker in workers:
        worker.wait_ready(90)
    eventually(lambda: SOL in covered(street), 60)  # nobody was there when it was opened
    street.by_hand("trade", symbol="ETHUSDT", side="BUY", quantity="0.1")
    eventually(lambda: covered(street) == {SOL, ETH}, 60)
    eventually(lambda: laddered(street) == {SOL, ETH}, 60)  # a ladder is placed by marks
    said = [event for _, event in street.records(topics.TRADE_FILLS) if event.purpose is Purpose.FOREIGN]
    assert {(fill.instrument, fill.side.value, fill.quantity, fill.backfilled) for fill in said} == {
        (SOL, "SELL", Decimal(1), True),
        (ETH, "BUY", Decimal("0.1"), True),  # the stream names it: asked for from its beginning
    }

    street.by_hand("trade", symbol="ETHUSDT", side="SELL", quantity="0.1")
    street.by_hand("trade", symbol="SOLUSDT", side="BUY", quantity="1")
    eventually(lambda: {event.instrument for _, event in street.records(topics.TRADE_CLOSED)} == {SOL, ETH}, 60)
    eventually(lambda: not resting(street), 90)
    before = len(marked(street))
    eventually(lambda: set().union(*marked(street)[before + 36 :]) == {BTC}, 60)
