"""Spot's words -> ours. Unknown fields are ignored: new ones appear all the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from infra.venue.binance.filters import SPOT, instrument_of
from infra.venue.binance.wire import Wire, fill_of, money
from infra.venue.port import Ack, Book, OrderSeen, Protection, UserEvent, VenueFill, VenueOrder
from schemas.units import OrderSide


def ack(row: Wire) -> Ack:
    return Ack(str(row["orderId"]), row["clientOrderId"], row.get("status", "NEW"))


def order(row: Wire) -> VenueOrder:
    """An entry of order, openOrders, allOrders. A sale can only reduce."""
    filled, turnover = money(row.get("executedQty")), money(row.get("cummulativeQuoteQty"))
    return VenueOrder(
        book=Book.ORDER,
        instrument=instrument_of(row["symbol"], SPOT),
        exchange_id=str(row["orderId"]),
        client_id=row["clientOrderId"],
        side=OrderSide(row["side"]),
        type=row["type"],
        status=row["status"],
        quantity=money(row.get("origQty")),
        filled=filled,
        average_price=turnover / filled if filled else Decimal(0),
        price=money(row.get("price")),
        trigger_price=money(row.get("stopPrice")),
        close_position=False,
        reduce_only=row["side"] == "SELL",
        child_order_id=None,
        at=int(row.get("updateTime") or row.get("time") or 0),
    )


def protection(stop: Wire, rows: Sequence[Wire], names: Mapping[int, str]) -> Protection:
    """A resting stop; its list's other order, where it has one, is the take-profit."""
    number = int(stop["orderListId"])
    goals = [row for row in rows if number != -1 and row["orderListId"] == number and row is not stop]
    return Protection(
        instrument=instrument_of(stop["symbol"], SPOT),
        side=OrderSide(stop["side"]),
        stop_price=money(stop["stopPrice"]),
        client_id=names[number] or stop["clientOrderId"],
        quantity=money(stop["origQty"]) - money(stop["executedQty"]),
        take_profit=money(goals[0]["price"]) if goals else None,
    )


def user_trade(row: Wire) -> VenueFill:
    return VenueFill(
        instrument=instrument_of(row["symbol"], SPOT),
        trade_id=int(row["id"]),
        order_id=str(row["orderId"]),
        client_id="",
        side=OrderSide.BUY if row["isBuyer"] else OrderSide.SELL,
        price=money(row["price"]),
        quantity=money(row["qty"]),
        fee=money(row["commission"]),
        fee_asset=row["commissionAsset"],
        realized_pnl=Decimal(0),
        maker=bool(row["isMaker"]),
        at=int(row["time"]),
    )


def user_event(message: Wire) -> UserEvent | None:
    """A message of the subscription: {"subscriptionId": 0, "event": {...}}. None for balances and lists, which orders tell too."""
    row = message.get("event", {})
    return _execution_report(row) if row.get("e") == "executionReport" else None


def _execution_report(o: Mapping[str, Any]) -> OrderSeen:
    """A cancel has a client id of its own; `C` is then the order's."""
    filled, turnover = money(o["z"]), money(o.get("Z"))
    seen = VenueOrder(
        book=Book.ORDER,
        instrument=instrument_of(o["s"], SPOT),
        exchange_id=str(o["i"]),
        client_id=o.get("C") or o["c"],
        side=OrderSide(o["S"]),
        type=o["o"],
        status=o["X"],
        quantity=money(o["q"]),
        filled=filled,
        average_price=turnover / filled if filled else Decimal(0),
        price=money(o.get("p")),
        trigger_price=money(o.get("P")),
        close_position=False,
        reduce_only=o["S"] == "SELL",
        child_order_id=None,
        at=int(o["T"]),
    )
    fill = fill_of(seen, o, "") if o["x"] == "TRADE" else None
    return OrderSeen(seen, o["x"], str(o.get("eR") or ""), fill)
