"""Positions in instruments that no setting names: the street tells their fills, plans them, protects them, and marks them.

The market stands still: whatever happens is by hand, or the street's answer to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import VenueOrder
from schemas import topics
from schemas.ids import Purpose, purpose_of

pytestmark = pytest.mark.broker
Eventually = Callable[[Callable[[], bool], float], None]
BTC, ETH, SOL = (f"binance.usdm.{name}USDT" for name in ("BTC", "ETH", "SOL"))


def covered(street: Any) -> set[str]:
    """Instruments in which a net of the street's own rests: no guardian is here."""

    async def ask() -> list[VenueOrder]:
        async with BinanceUsdm(street.direct) as venue:
            return await venue.open_algo_orders()

    resting = asyncio.run(ask())
    return {order.instrument for order in resting if order.close_position and purpose_of(order.client_id) is Purpose.STOP}


def marked(street: Any) -> list[set[str]]:
    return [{mark.instrument for mark in event.marks} for _, event in street.records(topics.MARKET_MARKS)]


def only_what_is_named_is_marked(street: Any) -> bool:
    """For two questions for marks of what is held: the marks of BTC go on, and of others none is told."""
    before = marked(street)
    time.sleep(6)
    after = marked(street)
    return after.count({BTC}) > before.count({BTC}) and len(after) - len(before) == after.count({BTC}) - before.count({BTC})


@pytest.mark.timeout(300)
def test_what_another_hand_opens_outside_of_the_settings_is_adopted_protected_and_let_go(
    street: Any, eventually: Eventually
) -> None:
    street.by_hand("pause")
    street.by_hand("trade", symbol="SOLUSDT", side="SELL", quantity="1")
    workers = [street.worker(name, QT_SYMBOLS="BTCUSDT") for name in ("market", "account", "positions", "exits", "execution")]
    for worker in workers:
        worker.wait_ready(90)
    eventually(lambda: covered(street) == {SOL}, 60)  # nobody was there when it was opened
    street.by_hand("trade", symbol="ETHUSDT", side="BUY", quantity="0.1")
    eventually(lambda: covered(street) == {SOL, ETH}, 60)
    eventually(lambda: {SOL, ETH} <= set().union(*marked(street)), 60)  # what trailing and the time stop live by
    said = [event for _, event in street.records(topics.TRADE_FILLS) if event.purpose is Purpose.FOREIGN]
    opened = {fill.instrument: fill for fill in reversed(said)}
    assert (opened[SOL].side, opened[SOL].quantity, opened[SOL].backfilled) == ("SELL", Decimal(1), True)
    assert (opened[ETH].side, opened[ETH].quantity) == ("BUY", Decimal("0.1"))

    street.by_hand("trade", symbol="SOLUSDT", side="BUY", quantity="1")
    street.by_hand("trade", symbol="ETHUSDT", side="SELL", quantity="0.1")
    eventually(lambda: not covered(street), 60)
    eventually(lambda: {event.instrument for _, event in street.records(topics.TRADE_CLOSED)} == {SOL, ETH}, 30)
    eventually(lambda: only_what_is_named_is_marked(street), 60)
