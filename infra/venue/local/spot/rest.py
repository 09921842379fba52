"""Spot over REST, and over the WebSocket API: parse, one command, answer from the engine's state."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from infra.venue.local import rest_market
from infra.venue.local.orders import Side
from infra.venue.local.params import Params
from infra.venue.local.refusals import Refusal, missing, not_required, refuse
from infra.venue.local.rest_orders import symbol_if_any
from infra.venue.local.spot import wire
from infra.venue.local.spot.market import Spot
from infra.venue.local.spot.orders import (
    CONDITIONAL,
    PRICED,
    CancelAllSpot,
    CancelSpot,
    CancelSpotList,
    Leg,
    OrderList,
    PlaceOco,
    PlaceSpot,
    SpotOrder,
    SpotTif,
    SpotType,
)
from infra.venue.local.venue import Venue

NO_LIST: Final = "Order list does not exist."
TIFS: Final = ("GTC", "IOC", "FOK")


def _spot(venue: Venue) -> Spot:
    return venue.engine.spot


# --- market -------------------------------------------------------------------------------------------------------------------


def exchange_info(venue: Venue, params: Params) -> Any:
    spot, several = _spot(venue), params.maybe("symbols")
    names = [name] if (name := params.maybe("symbol")) is not None else _listed(several) if several else list(spot.symbols)
    return wire.exchange_info([spot.symbol(n) for n in names], venue.request_ms(), venue.engine.floor.status)


def _listed(text: str) -> list[str]:
    try:
        return [str(name) for name in json.loads(text)]
    except (ValueError, TypeError):
        raise refuse(-1130) from None


def klines(venue: Venue, params: Params) -> Any:
    return rest_market.klines(venue, params)[:1000]


def depth(venue: Venue, params: Params) -> Any:
    spot = _spot(venue)
    spot.symbol(params.text("symbol"))
    return wire.depth(spot.book(params.text("symbol")), params.limit(100, 5000), venue.updates)


def ticker_price(venue: Venue, params: Params) -> Any:
    spot, name = _spot(venue), symbol_if_any(venue, params)
    books = [spot.book(n) for n in spot.symbols if name in (None, n)]
    rows = [{"symbol": book.symbol.name, "price": wire.money(book.last * book.symbol.tick)} for book in books]
    return rows if name is None else rows[0]


def book_ticker(venue: Venue, params: Params) -> Any:
    spot, name = _spot(venue), symbol_if_any(venue, params)
    rows = [wire.book_ticker(spot.book(n)) for n in spot.symbols if name in (None, n)]
    return rows if name is None else rows[0]


# --- orders -------------------------------------------------------------------------------------------------------------------


def _side(params: Params) -> Side:
    return cast(Side, params.choice("side", ("BUY", "SELL"), -1117))


def _leg(params: Params, prefix: str = "") -> Leg:
    """One order's own parameters: `price`, or `abovePrice` and so on in a list."""

    def name(plain: str) -> str:
        return prefix + plain[0].upper() + plain[1:] if prefix else plain

    kind = params.choice(name("type"), tuple(wire.TYPES), -1116)
    price, stop = params.number(name("price")), params.number(name("stopPrice"))
    asked_tif = params.maybe(name("timeInForce"))
    tif = params.choice(name("timeInForce"), TIFS, -1115, default="GTC")
    wants_tif = kind in PRICED and kind != "LIMIT_MAKER"
    for wanted, there, parameter in (
        (kind in PRICED, price is not None, "price"),
        (kind in CONDITIONAL, stop is not None, "stopPrice"),
        (wants_tif, asked_tif is not None, "timeInForce"),
    ):
        if wanted and not there:
            raise missing(name(parameter))
        if there and not wanted:
            raise not_required(name(parameter))
    for unknown in ("trailingDelta", "icebergQty"):
        if params.maybe(name(unknown)) is not None:
            raise not_required(name(unknown))
    client_id = params.maybe(name("clientOrderId") if prefix else "newClientOrderId") or ""
    return Leg(cast(SpotType, kind), price, stop, cast(SpotTif, tif), client_id)


def parse_order(params: Params) -> PlaceSpot:
    symbol, side, leg = params.text("symbol"), _side(params), _leg(params)
    qty, quote_qty = params.number("quantity"), params.number("quoteOrderQty")
    if quote_qty is not None and (leg.type != "MARKET" or qty is not None):
        raise not_required("quoteOrderQty")
    if qty is None and quote_qty is None:
        raise missing("quantity")
    return PlaceSpot(symbol, side, leg, qty, quote_qty)


def place_order(venue: Venue, params: Params) -> Any:
    ask, spot = parse_order(params), _spot(venue)
    default = "FULL" if ask.leg.type in ("MARKET", "LIMIT") else "ACK"
    kind = params.choice("newOrderRespType", ("ACK", "RESULT", "FULL"), -1102, default=default)
    venue.execute(ask)
    return _answer(spot, spot.orders[spot.order_id], kind)


def try_order(venue: Venue, params: Params) -> Any:
    """Form is checked, nothing is sent to the engine."""
    _spot(venue).symbol(parse_order(params).symbol)
    return {}


def _answer(spot: Spot, order: SpotOrder, kind: str) -> Any:
    symbol = spot.symbols[order.symbol]
    match kind:
        case "ACK":
            return wire.ack(order)
        case "RESULT":
            return wire.result(symbol, order)
        case _:
            return wire.full(symbol, order, [f for f in spot.fills[order.symbol] if f.order_id == order.id])


def _find(spot: Spot, params: Params) -> SpotOrder | None:
    order_id, client_id = params.integer("orderId"), params.maybe("origClientOrderId")
    if order_id is None and client_id is None:
        raise Refusal(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    order = spot.find(params.text("symbol"), order_id, client_id)
    return order if order is None or client_id is None or order.client_id == client_id else None


def query_order(venue: Venue, params: Params) -> Any:
    spot = _spot(venue)
    order = _find(spot, params)
    if order is None:
        raise refuse(-2013)
    return wire.query(spot.symbols[order.symbol], order)


def cancel_order(venue: Venue, params: Params) -> Any:
    spot = _spot(venue)
    order = _find(spot, params)
    if order is None:
        raise refuse(-2011)
    venue.execute(CancelSpot(order.symbol, order.id, cancel_id=params.maybe("newClientOrderId") or ""))
    return wire.cancelled(spot.symbols[order.symbol], order)


def cancel_all(venue: Venue, params: Params) -> Any:
    """Single orders as such, lists as lists."""
    spot, name = _spot(venue), params.text("symbol")
    spot.symbol(name)
    ends = spot.open_orders(name)
    venue.execute(CancelAllSpot(name))
    lists = dict.fromkeys(order.list_id for order in ends if order.list_id in spot.lists)
    alone = [wire.cancelled(spot.symbols[name], order) for order in ends if order.list_id not in spot.lists]
    return alone + [_list_answer(spot, spot.lists[number], cancelled=True) for number in lists]


def open_orders(venue: Venue, params: Params) -> Any:
    spot = _spot(venue)
    return [wire.query(spot.symbols[o.symbol], o) for o in spot.open_orders(symbol_if_any(venue, params))]


def all_orders(venue: Venue, params: Params) -> Any:
    spot, name = _spot(venue), params.text("symbol")
    spot.symbol(name)
    from_id, start_t, end_t = (params.integer(key) for key in ("orderId", "startTime", "endTime"))
    limit = params.limit(500, 1000)
    found = [
        order
        for order in spot.orders.values()
        if order.symbol == name
        and (from_id is None or order.id >= from_id)
        and (start_t is None or order.created_t >= start_t)
        and (end_t is None or order.created_t <= end_t)
    ]
    found = found[-limit:] if from_id is None and start_t is None else found[:limit]
    return [wire.query(spot.symbols[name], order) for order in found]


# --- order lists --------------------------------------------------------------------------------------------------------------


def place_oco(venue: Venue, params: Params) -> Any:
    spot = _spot(venue)
    kind = params.choice("newOrderRespType", ("ACK", "RESULT", "FULL"), -1102, default="RESULT")
    qty = params.number("quantity")
    if qty is None:
        raise missing("quantity")
    legs = _leg(params, "above"), _leg(params, "below")
    venue.execute(PlaceOco(params.text("symbol"), _side(params), qty, *legs, params.maybe("listClientOrderId") or ""))
    found = spot.lists[spot.list_id]
    reports = [_answer(spot, spot.orders[number], kind) for number in found.orders]
    return {**wire.order_list(spot, found), "orderReports": reports}


def _list_answer(spot: Spot, found: OrderList, *, cancelled: bool) -> Any:
    body = wire.order_list(spot, found)
    if not cancelled:
        return body
    symbol = spot.symbols[found.symbol]
    return {**body, "orderReports": [wire.cancelled(symbol, spot.orders[number]) for number in found.orders]}


def query_list(venue: Venue, params: Params) -> Any:
    spot = _spot(venue)
    found = spot.find_list(params.integer("orderListId"), params.maybe("origClientOrderId"))
    if found is None:
        raise Refusal(-2018, NO_LIST)
    return _list_answer(spot, found, cancelled=False)


def cancel_list(venue: Venue, params: Params) -> Any:
    spot = _spot(venue)
    list_id, client_id = params.integer("orderListId"), params.maybe("listClientOrderId")
    if list_id is None and client_id is None:
        raise missing("orderListId")
    venue.execute(CancelSpotList(params.text("symbol"), list_id, client_id, params.maybe("newClientOrderId") or ""))
    found = spot.find_list(list_id, client_id)
    assert found is not None  # else the engine has refused
    return _list_answer(spot, found, cancelled=True)


def open_lists(venue: Venue, params: Params) -> Any:
    spot = _spot(venue)
    return [_list_answer(spot, one, cancelled=False) for one in spot.lists.values() if not one.is_done]


def all_lists(venue: Venue, params: Params) -> Any:
    spot, from_id = _spot(venue), params.integer("fromId")
    start_t, end_t, limit = params.integer("startTime"), params.integer("endTime"), params.limit(500, 1000)
    found = [
        one
        for one in spot.lists.values()
        if (from_id is None or one.id >= from_id) and (start_t is None or one.t >= start_t) and (end_t is None or one.t <= end_t)
    ]
    return [_list_answer(spot, one, cancelled=False) for one in found[::-1][:limit]]


# --- account ------------------------------------------------------------------------------------------------------------------


def account(venue: Venue, params: Params) -> Any:
    return wire.account(_spot(venue), omit_zero=params.flag("omitZeroBalances"))


def my_trades(venue: Venue, params: Params) -> Any:
    """From an id on, else by time; without either the newest. `orderId` keeps those of one order."""
    spot, name = _spot(venue), params.text("symbol")
    spot.symbol(name)
    from_id, order_id, start_t, end_t = (params.integer(key) for key in ("fromId", "orderId", "startTime", "endTime"))
    limit = params.limit(500, 1000)
    found = [
        fill
        for fill in spot.fills[name]
        if (order_id is None or fill.order_id == order_id)
        and (from_id is None or fill.id >= from_id)
        and (start_t is None or fill.t >= start_t)
        and (end_t is None or fill.t <= end_t)
    ]
    found = found[-limit:] if from_id is None and start_t is None else found[:limit]
    return [wire.trade(spot.symbols[name], fill) for fill in found]
