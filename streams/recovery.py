"""Start is recovery: new exposure waits until every position on the exchange has its stop, wherever it came from."""

from __future__ import annotations

from decimal import Decimal

from infra.venue.port import TradingVenue, VenueOrder, VenuePosition

STOPS = ("STOP_MARKET", "STOP", "TRAILING_STOP_MARKET")


async def naked(venue: TradingVenue) -> list[str]:
    """Instruments with a position that live stops do not cover. 45 of weight. Raises VenueError."""
    held = await venue.positions()
    stops = await venue.open_algo_orders() if held else []
    return sorted(position.instrument for position in held if not _covered(position, stops))


def _covered(position: VenuePosition, stops: list[VenueOrder]) -> bool:
    mine = [
        stop
        for stop in stops
        if stop.instrument == position.instrument and stop.live and stop.type in STOPS and stop.side is position.side.closes_with
    ]
    return any(stop.close_position for stop in mine) or sum((s.quantity for s in mine), Decimal(0)) >= abs(position.quantity)
