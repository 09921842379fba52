"""Start is recovery: new exposure waits until every position on the exchange has its stop, wherever it came from."""

from __future__ import annotations

from infra.venue.port import Book, TradingVenue, VenueOrder, VenuePosition
from processors.protection import Held, Resting, bare
from schemas.policy import Policy


async def naked(venue: TradingVenue, policy: Policy) -> list[str]:
    """Instruments with a position that live stops do not cover. 45 of weight. Raises VenueError."""
    positions = await venue.positions()
    stops = await venue.open_algo_orders() if positions else []
    return bare([held(position) for position in positions], resting(stops), policy)


def held(position: VenuePosition) -> Held:
    return Held(
        position.instrument,
        position.side,
        abs(position.quantity),
        position.entry_price,
        position.mark,
        position.liquidation_price,
        position.at,
    )


def resting(orders: list[VenueOrder]) -> list[Resting]:
    """Those that live and can only reduce."""
    return [_resting(order) for order in orders if order.live and (order.close_position or order.reduce_only)]


def _resting(order: VenueOrder) -> Resting:
    algo = order.book is Book.ALGO
    return Resting(
        order.instrument,
        order.client_id,
        algo,
        order.type,
        order.side,
        order.trigger_price if algo else order.price,
        order.quantity - order.filled,
        order.close_position,
    )
