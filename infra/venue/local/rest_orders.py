"""Orders of both books over REST: parse, one command, answer from the engine's state."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

from infra.venue.local import commands, wire_orders
from infra.venue.local.happenings import AlgoChanged, OrderChanged
from infra.venue.local.orders import Algo, AlgoType, Order, OrderType, PositionSide, Side, TimeInForce, WorkingType
from infra.venue.local.params import Params
from infra.venue.local.refusals import missing, not_required, refuse
from infra.venue.local.venue import Venue

CONDITIONAL = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
CANCELLED_ALL = {"code": 200, "msg": "The operation of cancel all open order is done."}


def _leg(params: Params) -> PositionSide:
    return cast(PositionSide, params.choice("positionSide", ("BOTH", "LONG", "SHORT"), -1116, default="BOTH"))


def _side(params: Params) -> Side:
    return cast(Side, params.choice("side", ("BUY", "SELL"), -1117))


# --- ordinary orders ----------------------------------------------------------------------------------------------------------


def parse_order(params: Params) -> commands.PlaceOrder:
    symbol, side = params.text("symbol"), _side(params)
    if params.text("type") in CONDITIONAL:
        raise refuse(-4120)
    kind = params.choice("type", ("MARKET", "LIMIT"), -1116)
    qty = params.number("quantity")
    if qty is None:
        raise missing("quantity")
    price = params.number("price")
    tif = "GTC"
    if kind == "LIMIT":
        tif = params.choice("timeInForce", ("GTC", "IOC", "FOK", "GTX"), -1115)
        if price is None:
            raise missing("price")
    else:
        for name in ("price", "timeInForce"):
            if params.maybe(name) is not None:
                raise not_required(name)
    for name in ("stopPrice", "closePosition", "activationPrice", "callbackRate"):
        if params.maybe(name) not in (None, "false"):
            raise not_required(name)
    return commands.PlaceOrder(
        symbol=symbol,
        side=side,
        type=cast(OrderType, kind),
        qty=qty,
        price=price,
        tif=cast(TimeInForce, tif),
        reduce_only=params.flag("reduceOnly"),
        client_id=params.maybe("newClientOrderId") or "",
        position_side=_leg(params),
    )


def place_order(venue: Venue, params: Params) -> Any:
    answer_kind = params.choice("newOrderRespType", ("ACK", "RESULT"), -1102, default="ACK")
    happened = venue.execute(parse_order(params))
    first = next(what for what in happened if isinstance(what, OrderChanged))
    order = venue.engine.floor.orders[first.order.id]
    body = wire_orders.order_answer if answer_kind == "RESULT" else wire_orders.order_ack
    return body(venue.symbols[order.symbol], order)


def _find_order(venue: Venue, params: Params) -> Order | None:
    order_id, client_id = params.integer("orderId"), params.maybe("origClientOrderId")
    return venue.engine.find_order(params.text("symbol"), order_id, client_id)


def query_order(venue: Venue, params: Params) -> Any:
    order = _find_order(venue, params)
    if order is None:
        raise refuse(-2013)
    return wire_orders.order_query(venue.symbols[order.symbol], order)


def query_open_order(venue: Venue, params: Params) -> Any:
    order = _find_order(venue, params)
    if order is None or not order.is_open:
        raise refuse(-2013)
    return wire_orders.order_query(venue.symbols[order.symbol], order)


def cancel_order(venue: Venue, params: Params) -> Any:
    symbol = params.text("symbol")
    order_id, client_id = params.integer("orderId"), params.maybe("origClientOrderId")
    order = _find_order(venue, params)
    venue.execute(commands.CancelOrder(symbol, order_id, client_id))
    assert order is not None  # else the engine has refused
    return wire_orders.order_answer(venue.symbols[symbol], order)


def cancel_all_orders(venue: Venue, params: Params) -> Any:
    venue.execute(commands.CancelAllOrders(params.text("symbol")))
    return CANCELLED_ALL


def symbol_if_any(venue: Venue, params: Params) -> str | None:
    name = params.maybe("symbol")
    if name is not None and name not in venue.symbols:
        raise refuse(-1121)
    return name


def open_orders(venue: Venue, params: Params) -> Any:
    found = venue.engine.floor.open_orders(symbol_if_any(venue, params))
    return [wire_orders.order_query(venue.symbols[order.symbol], order) for order in found]


def all_orders(venue: Venue, params: Params) -> Any:
    """By id from `orderId` on, else by time; without either the newest."""
    name, from_id = symbol_if_any(venue, params), params.integer("orderId")
    start_t, end_t = params.integer("startTime"), params.integer("endTime")
    limit = params.limit(500, 1000)
    found = [
        order
        for order in venue.engine.floor.orders.values()
        if (name is None or order.symbol == name)
        and (from_id is None or order.id >= from_id)
        and (start_t is None or order.created_t >= start_t)
        and (end_t is None or order.created_t <= end_t)
    ]
    found = found[-limit:] if from_id is None and start_t is None else found[:limit]
    return [wire_orders.order_query(venue.symbols[order.symbol], order) for order in found]


# --- conditional orders -------------------------------------------------------------------------------------------------------


def parse_algo(params: Params) -> commands.PlaceAlgo:
    if params.text("algoType") != "CONDITIONAL":
        raise missing("algoType")
    symbol, side = params.text("symbol"), _side(params)
    kind = params.choice("type", CONDITIONAL, -1116)
    trigger = params.number("triggerPrice")
    trailing, limit = kind == "TRAILING_STOP_MARKET", kind in ("STOP", "TAKE_PROFIT")
    if trigger is None and not trailing:
        raise missing("triggerPrice")
    for name, wanted in (("price", limit), ("callbackRate", trailing), ("activatePrice", trailing)):
        if params.maybe(name) is not None and not wanted:
            raise not_required(name)
    return commands.PlaceAlgo(
        symbol=symbol,
        side=side,
        type=cast(AlgoType, kind),
        trigger=trigger if trigger is not None else Decimal(0),
        working_type=cast(
            WorkingType, params.choice("workingType", ("MARK_PRICE", "CONTRACT_PRICE"), -1102, default="CONTRACT_PRICE")
        ),
        qty=params.number("quantity"),
        close_position=params.flag("closePosition"),
        reduce_only=params.flag("reduceOnly"),
        tif=params.choice("timeInForce", ("GTC", "IOC", "FOK", "GTX", "GTE_GTC"), -1115, default="GTC"),
        price_protect=params.flag("priceProtect"),
        client_id=params.maybe("clientAlgoId") or "",
        position_side=_leg(params),
        price=params.number("price"),
        activate=params.number("activatePrice"),
        callback=params.number("callbackRate"),
    )


def place_algo(venue: Venue, params: Params) -> Any:
    happened = venue.execute(parse_algo(params))
    first = next(what for what in happened if isinstance(what, AlgoChanged))
    return wire_orders.algo_answer(venue.symbols[first.algo.symbol], first.algo)


def _find_algo(venue: Venue, params: Params) -> Algo | None:
    return venue.engine.find_algo(params.integer("algoId"), params.maybe("clientAlgoId"))


def query_algo(venue: Venue, params: Params) -> Any:
    algo = _find_algo(venue, params)
    if algo is None:
        raise refuse(-2013)
    return wire_orders.algo_query(venue.symbols[algo.symbol], algo)


def cancel_algo(venue: Venue, params: Params) -> Any:
    algo = _find_algo(venue, params)
    venue.execute(commands.CancelAlgo(params.integer("algoId"), params.maybe("clientAlgoId")))
    assert algo is not None  # else the engine has refused
    return {"algoId": algo.id, "clientAlgoId": algo.client_id, "code": "200", "msg": "success"}


def cancel_all_algos(venue: Venue, params: Params) -> Any:
    venue.execute(commands.CancelAllAlgos(params.text("symbol")))
    return CANCELLED_ALL


def open_algos(venue: Venue, params: Params) -> Any:
    wanted = params.integer("algoId")
    found = venue.engine.floor.live_algos(symbol_if_any(venue, params))
    return [wire_orders.algo_query(venue.symbols[a.symbol], a) for a in found if wanted is None or a.id == wanted]


def all_algos(venue: Venue, params: Params) -> Any:
    params.text("symbol")
    name, from_id = symbol_if_any(venue, params), params.integer("algoId")
    start_t, end_t = params.integer("startTime"), params.integer("endTime")
    limit = params.limit(500, 1000)
    found = [
        algo
        for algo in venue.engine.floor.algos.values()
        if algo.symbol == name
        and (from_id is None or algo.id >= from_id)
        and (start_t is None or algo.created_t >= start_t)
        and (end_t is None or algo.created_t <= end_t)
    ]
    found = found[-limit:] if from_id is None and start_t is None else found[:limit]
    return [wire_orders.algo_query(venue.symbols[algo.symbol], algo) for algo in found]
