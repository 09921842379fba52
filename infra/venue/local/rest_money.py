"""Income, forced orders, an isolated position's margin, and the limits of an account over REST."""

from __future__ import annotations

from typing import Any, cast

from infra.venue.local import commands, wire_orders
from infra.venue.local.limits import ORDERS_1M, ORDERS_10S
from infra.venue.local.orders import PositionSide
from infra.venue.local.params import Params
from infra.venue.local.refusals import missing, refuse
from infra.venue.local.rest_orders import symbol_if_any
from infra.venue.local.venue import Venue

FORCED = "autoclose-"


def income(venue: Venue, params: Params) -> Any:
    """Realised profit and commission of every fill, funding, and what the insurance fund paid."""
    name, kind = symbol_if_any(venue, params), params.maybe("incomeType")
    start_t, end_t = params.integer("startTime"), params.integer("endTime")
    limit, page = params.limit(100, 1000), max(1, params.integer("page", 1) or 1)
    floor = venue.engine.floor
    fills = [f for fills in floor.fills.values() for f in fills if name is None or f.symbol == name]
    rows = [row for fill in fills for row in wire_orders.income_rows(fill)]
    rows += [wire_orders.booked_row(b) for b in floor.booked if b.kind != "MARGIN" and name in (None, b.symbol)]
    found = [
        row
        for row in sorted(rows, key=lambda row: (row["time"], row["tranId"]))
        if (kind is None or row["incomeType"] == kind)
        and (start_t is None or row["time"] >= start_t)
        and (end_t is None or row["time"] <= end_t)
    ]
    if start_t is None and page == 1:
        return found[-limit:]
    return found[(page - 1) * limit : page * limit]


def force_orders(venue: Venue, params: Params) -> Any:
    name, kind = symbol_if_any(venue, params), params.maybe("autoCloseType")
    start_t, end_t = params.integer("startTime"), params.integer("endTime")
    limit = params.limit(50, 100)
    if kind == "ADL":
        return []  # nobody is deleveraged here
    found = [
        order
        for order in venue.engine.floor.orders.values()
        if order.client_id.startswith(FORCED)
        and name in (None, order.symbol)
        and (start_t is None or order.created_t >= start_t)
        and (end_t is None or order.created_t <= end_t)
    ]
    return [wire_orders.force_order(venue.symbols[order.symbol], order) for order in found[-limit:]]


def adl_quantile(venue: Venue, params: Params) -> Any:
    name, account = symbol_if_any(venue, params), venue.engine.floor.account
    keys = ("LONG", "SHORT") if account.dual else ("BOTH",)
    return [{"symbol": n, "adlQuantile": dict.fromkeys((*keys, "HEDGE"), 0)} for n in account.exposed if name in (None, n)]


def order_limits(venue: Venue, params: Params) -> Any:
    spans = (("SECOND", 10, ORDERS_10S), ("MINUTE", 1, ORDERS_1M))
    return [{"rateLimitType": "ORDERS", "interval": i, "intervalNum": n, "limit": limit} for i, n, limit in spans]


# --- isolated margin ----------------------------------------------------------------------------------------------------------


def move_margin(venue: Venue, params: Params) -> Any:
    """`type` 1 adds, 2 takes away."""
    symbol, kind, amount = params.text("symbol"), params.choice("type", ("1", "2"), -1130), params.number("amount")
    side = cast(PositionSide, params.choice("positionSide", ("BOTH", "LONG", "SHORT"), -1116, default="BOTH"))
    if amount is None:
        raise missing("amount")
    if amount <= 0:
        raise refuse(-4055)
    venue.execute(commands.MoveMargin(symbol, amount if kind == "1" else -amount, side))
    return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": int(kind)}


def margin_moves(venue: Venue, params: Params) -> Any:
    params.text("symbol")
    name, kind, limit = symbol_if_any(venue, params), params.maybe("type"), params.limit(500, 500)
    rows = [
        {
            "symbol": b.symbol,
            "type": 1 if b.amount > 0 else 2,
            "deltaType": "USER_ADJUST",
            "amount": f"{abs(b.amount):f}",
            "asset": "USDT",
            "time": b.t,
            "positionSide": b.position_side,
        }
        for b in venue.engine.floor.booked
        if b.kind == "MARGIN" and b.symbol == name
    ]
    return [row for row in rows if kind in (None, str(row["type"]))][-limit:]
