"""Orders in the plural and after the fact over REST: batches, amendments, the countdown, and a try without effect."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

from infra.venue.local import commands, filters, wire_orders
from infra.venue.local.orders import Order, Side
from infra.venue.local.params import Params
from infra.venue.local.refusals import Refusal, missing, refuse
from infra.venue.local.rest_orders import cancel_order, parse_order, place_order, symbol_if_any
from infra.venue.local.venue import Venue

MOST_PLACED: Final = 5
MOST_CANCELLED: Final = 10


def try_order(venue: Venue, params: Params) -> Any:
    """Form is checked, nothing is sent to the engine; answered as if it had been, with an order of no number."""
    ask = parse_order(params)
    symbol, now = venue.engine.floor.symbol(ask.symbol), venue.market_t
    price = filters.ticks(symbol, ask.price) if ask.price is not None else 0
    qty = filters.steps(symbol, ask.qty, market=not price)
    order = Order(0, ask.client_id, ask.symbol, ask.side, ask.type, ask.tif, price, qty, ask.reduce_only, now, now)
    return wire_orders.order_query(symbol, replace(order, orig_type=ask.type, position_side=ask.position_side))


def amend_order(venue: Venue, params: Params) -> Any:
    symbol = params.text("symbol")
    side = cast(Side, params.choice("side", ("BUY", "SELL"), -1117))
    qty, price = params.number("quantity"), params.number("price")
    order_id, client_id = params.integer("orderId"), params.maybe("origClientOrderId")
    if qty is None:
        raise missing("quantity")
    if price is None:
        raise missing("price")
    venue.execute(commands.AmendOrder(symbol, side, qty, price, order_id, client_id))
    order = venue.engine.find_order(symbol, order_id, client_id)
    assert order is not None  # else the engine has refused
    return wire_orders.amended(venue.symbols[symbol], order)


def amendments(venue: Venue, params: Params) -> Any:
    params.text("symbol")
    name, order_id, client_id = symbol_if_any(venue, params), params.integer("orderId"), params.maybe("origClientOrderId")
    start_t, end_t, limit = params.integer("startTime"), params.integer("endTime"), params.limit(50, 100)
    found = [
        wire_orders.amendment_row(venue.symbols[after.symbol], number, before, after)
        for number, (before, after) in enumerate(venue.engine.floor.amendments, start=1)
        if after.symbol == name
        and (order_id is None or after.id == order_id)
        and (client_id is None or after.client_id == client_id)
        and (start_t is None or after.updated_t >= start_t)
        and (end_t is None or after.updated_t <= end_t)
    ]
    return found[::-1][:limit]


# --- batches ------------------------------------------------------------------------------------------------------------------


def place_batch(venue: Venue, params: Params) -> Any:
    return _each(venue, _rows(params, "batchOrders", MOST_PLACED), place_order)


def amend_batch(venue: Venue, params: Params) -> Any:
    return _each(venue, _rows(params, "batchOrders", MOST_PLACED), amend_order)


def cancel_batch(venue: Venue, params: Params) -> Any:
    symbol = params.text("symbol")
    for sent, name in (("orderIdList", "orderId"), ("origClientOrderIdList", "origClientOrderId")):
        for spelling in (sent, sent.lower()):  # python-binance still uses the old names
            if params.maybe(spelling) is not None:
                asked = _list(params, spelling, MOST_CANCELLED)
                rows = [{"symbol": symbol, name: str(value)} for value in asked]
                return _each(venue, rows, cancel_order)
    raise missing("orderIdList")


def _each(venue: Venue, rows: list[dict[str, str]], call: Callable[[Venue, Params], Any]) -> list[Any]:
    """Every row for itself: what is refused says so in its place, the others go on."""
    answers: list[Any] = []
    for row in rows:
        try:
            answers.append(call(venue, Params(row)))
        except Refusal as no:
            answers.append({"code": no.code, "msg": no.message})
    return answers


def _list(params: Params, name: str, most: int) -> list[Any]:
    try:
        found = json.loads(params.text(name))
    except ValueError:
        raise refuse(-1130) from None
    if not isinstance(found, list) or not 0 < len(found) <= most:
        raise refuse(-1130)
    return found


def _rows(params: Params, name: str, most: int) -> list[dict[str, str]]:
    rows = _list(params, name, most)
    if not all(isinstance(row, dict) for row in rows):
        raise refuse(-1130)
    return [{key: text_of(value) for key, value in row.items() if value is not None} for row in rows]


def text_of(value: Any) -> str:
    """A JSON value as it would stand in a query."""
    return value if isinstance(value, str) else json.dumps(value)


# --- the countdown ------------------------------------------------------------------------------------------------------------


def countdown(venue: Venue, params: Params) -> Any:
    """All orders of the symbol end when it runs out in real time; conditional ones stay: that it touches them is not documented."""
    params.text("symbol")
    name, span_ms = cast(str, symbol_if_any(venue, params)), params.integer("countdownTime")
    if span_ms is None or span_ms < 0:
        raise missing("countdownTime")
    venue.countdowns.pop(name, None)
    if span_ms:
        venue.countdowns[name] = time.monotonic() + span_ms / 1000
    return {"symbol": name, "countdownTime": str(span_ms)}
