"""Is an order that the exchange denies really absent? A second way to it than its client id, for what must not exist twice.

A query can lag behind a write. So before a new attempt of an order whose answer was lost, its instrument's newest orders are read:
the one in question among them is found after all. A recent trade of ours that belongs to none of them leaves the question open.
"""

from __future__ import annotations

from typing import NamedTuple

from infra.venue.port import Book, TradingVenue, VenueOrder
from processors.intents import Intent

NEWEST_TRADES = 50


class Sought(NamedTuple):
    """`proven`: nothing that the exchange tells contradicts that the order is not there."""

    order: VenueOrder | None
    proven: bool


async def seek(venue: TradingVenue, intent: Intent) -> Sought:
    """Reads 10 of weight. Raises VenueError."""
    key = intent.instrument
    if intent.book == Book.ALGO:
        listed = await venue.newest_algo_orders(key)
        return _among(listed, intent.client_id, proven=True)
    trades = await venue.user_trades(key, limit=NEWEST_TRADES)
    listed = await venue.newest_orders(key)  # after the trades: an order stands in its list before it can have traded
    known = {order.exchange_id for order in listed}
    oldest = min((int(order.exchange_id) for order in listed), default=0)
    strange = [trade for trade in trades if trade.order_id not in known and int(trade.order_id) > oldest]
    return _among(listed, intent.client_id, proven=not strange)


def _among(listed: list[VenueOrder], client_id: str, *, proven: bool) -> Sought:
    found = next((order for order in listed if order.client_id == client_id), None)
    return Sought(found, proven and found is None)
