"""What an order must be before it is one: form, filters, names, room, and for a list of two that their prices make sense."""

from __future__ import annotations

from decimal import Decimal

from infra.venue.local.filters import check_client_id
from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import Side
from infra.venue.local.refusals import Refusal
from infra.venue.local.spot import filters, refusals
from infra.venue.local.spot.floor import SpotFloor
from infra.venue.local.spot.orders import CONDITIONAL, PROFITS, STOPS, Leg, PlaceOco, SpotOrder


def opened(floor: SpotFloor, name: str) -> Symbol:
    symbol = floor.symbol(name)
    if floor.floor.status[name] != "TRADING":
        raise refusals.rejected(refusals.CLOSED)
    return symbol


def made(floor: SpotFloor, name: str, side: Side, leg: Leg, qty: int, quote_qty: Decimal) -> SpotOrder:
    """An order with its form checked; it has no id yet."""
    symbol, book = floor.symbols[name], floor.book(name)
    price = filters.ticks(symbol, leg.price, "price") if leg.price is not None else 0
    stop = filters.ticks(symbol, leg.stop, "stopPrice") if leg.stop is not None else 0
    if price:
        filters.check_band(side, price, book.last)
    if leg.client_id:
        check_client_id(leg.client_id, "newClientOrderId")
        namesake = floor.named.get(leg.client_id)
        if namesake is not None and namesake.is_open:
            raise refusals.rejected(refusals.DUPLICATE)
    now = floor.floor.now
    return SpotOrder(0, leg.client_id, name, side, leg.type, leg.tif, price, qty, now, now, stop=stop, quote_qty=quote_qty)


def room(floor: SpotFloor, order: SpotOrder, more: int) -> None:
    there = floor.open_orders(order.symbol)
    if len(there) + more > filters.MAX_ORDERS:
        raise refusals.filtered("MAX_NUM_ORDERS")
    if order.type in CONDITIONAL and sum(o.type in CONDITIONAL for o in there) >= filters.MAX_ALGOS:
        raise refusals.filtered("MAX_NUM_ALGO_ORDERS")


def pair(floor: SpotFloor, ask: PlaceOco) -> tuple[SpotOrder, SpotOrder]:
    """The two orders of a list, the stop first; nothing is kept yet."""
    symbol = opened(floor, ask.symbol)
    selling = ask.side == "SELL"
    stop, profit = (ask.below, ask.above) if selling else (ask.above, ask.below)
    if stop.type not in STOPS or profit.type not in ("LIMIT_MAKER", *PROFITS):
        raise _misplaced(selling=selling, stop=stop, profit=profit)
    if ask.client_id:
        check_client_id(ask.client_id, "listClientOrderId")
        namesake = floor.lists_named.get(ask.client_id)
        if namesake is not None and not namesake.is_done:
            raise refusals.rejected(refusals.DUPLICATE)
    if stop.client_id and stop.client_id == profit.client_id:
        raise refusals.rejected(refusals.DUPLICATE)
    qty, book = filters.steps(symbol, ask.qty, market=False), floor.book(ask.symbol)
    first, second = (made(floor, ask.symbol, ask.side, leg, qty, Decimal(0)) for leg in (stop, profit))
    goal = second.price if second.type == "LIMIT_MAKER" else second.stop
    right = goal > book.last > first.stop if selling else goal < book.last < first.stop
    if not right or first.fires_at(book.last) or (second.stop and second.fires_at(book.last)):
        raise refusals.rejected(refusals.UNRELATED)
    for order in (first, second):
        filters.check_notional(symbol, order.price or order.stop, qty)
        room(floor, order, 2)
    if second.type == "LIMIT_MAKER" and book.crosses(second.side, second.price):
        raise refusals.rejected(refusals.TAKES)
    if sum(not one.is_done and one.symbol == ask.symbol for one in floor.lists.values()) >= filters.MAX_LISTS:
        raise refusals.filtered("MAX_NUM_ORDER_LISTS")
    return first, second


def _misplaced(*, selling: bool, stop: Leg, profit: Leg) -> Refusal:
    """`stop` stands where a stop must be, `profit` where a limit or a take-profit must be."""
    if stop.type == "LIMIT_MAKER":
        return refusals.oco(-1166 if selling else -1165)
    if profit.type in STOPS:
        return refusals.oco(-1197 if selling else -1196)
    if stop.type in PROFITS:
        return refusals.oco(-1199 if selling else -1198)
    return refusals.oco(-1158)
