"""What the control port does to a running exchange from outside: another hand trades on the account, a symbol leaves,
the book is thin, the exchange's clock is wrong, limits are switched, connections live shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, cast

from infra.errors import UserError
from infra.venue.local.commands import AutoClose, CancelAllAlgos, PlaceOrder, SetSymbolStatus
from infra.venue.local.happenings import OrderChanged
from infra.venue.local.hub import LIFE_S
from infra.venue.local.orders import Side
from infra.venue.local.refusals import Refusal

if TYPE_CHECKING:
    from infra.venue.local.runtime import Exchange

Act = Callable[["Exchange", dict[str, Any]], dict[str, Any]]
STATUSES: Final = ("TRADING", "PENDING_TRADING", "PRE_SETTLE", "SETTLING", "CLOSE")


def autoclose(exchange: Exchange, body: dict[str, Any]) -> dict[str, Any]:
    """{"symbol": "BTCUSDT", "quantity": "0.01", "by": "ADL"}: the exchange takes so much of a position at the mark, to delever it,
    or with "LIQUIDATION" as one step of one."""
    what, by = "nothing was taken", str(body.get("by", "ADL"))
    if by not in ("ADL", "LIQUIDATION"):
        raise UserError(what, f"by {by!r} is unknown", "say ADL or LIQUIDATION")
    name, qty = _symbol(exchange, body, what), _quantity(body, what)
    venue = exchange.venue
    client_id = "adl_autoclose" if by == "ADL" else f"autoclose-{venue.market_t}{venue.engine.floor.order_id + 1:06d}"
    try:
        happened = venue.execute(AutoClose(name, qty, client_id))
    except Refusal as no:
        raise UserError(what, f"the exchange refuses: {no.code} {no.message}", "take what is there") from None
    order = next(h.order for h in happened if isinstance(h, OrderChanged))
    return {"orderId": order.id, "clientOrderId": client_id}


def trade(exchange: Exchange, body: dict[str, Any]) -> dict[str, Any]:
    """{"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01"}: a market order that no client of ours has sent."""
    what = "the other hand cannot trade"
    side = str(body.get("side", "")).upper()
    if side not in ("BUY", "SELL"):
        raise UserError(what, f"side {side!r} is none", "say BUY or SELL")
    qty = _quantity(body, what)
    venue = exchange.venue
    by_hand = f"web_{venue.engine.floor.order_id + 1}"
    try:
        happened = venue.execute(
            PlaceOrder(_symbol(exchange, body, what), cast(Side, side), "MARKET", qty, client_id=by_hand, **_leg(body))
        )
    except Refusal as no:
        raise UserError(what, f"the exchange refuses: {no.code} {no.message}", "trade what is possible") from None
    order = next(h.order for h in happened if isinstance(h, OrderChanged))
    return {"orderId": order.id, "clientOrderId": by_hand}


def _leg(body: dict[str, Any]) -> dict[str, Any]:
    side = str(body.get("positionSide", "BOTH"))
    return {"reduce_only": bool(body.get("reduceOnly", False)), "position_side": side if side in ("LONG", "SHORT") else "BOTH"}


def symbol(exchange: Exchange, body: dict[str, Any]) -> dict[str, Any]:
    """{"symbol": "BTCUSDT", "status": "SETTLING"}: nothing opens there any more; with CLOSE nothing trades."""
    what, status = "the symbol cannot be changed", str(body.get("status", ""))
    if status not in STATUSES:
        raise UserError(what, f"status {status!r} is unknown", f"choose one of {', '.join(STATUSES)}")
    name = _symbol(exchange, body, what)
    exchange.venue.execute(SetSymbolStatus(name, status))
    return {"symbol": name, "status": status}


def liquidity(exchange: Exchange, body: dict[str, Any]) -> dict[str, Any]:
    """{"symbol": "BTCUSDT", "most": "0.002"}: a taker gets no more than that at once; without `most` as before."""
    what = "the book cannot be made thin"
    name = _symbol(exchange, body, what)
    book = exchange.venue.engine.floor.books[name]
    try:
        book.most = None if body.get("most") is None else max(0, int(Decimal(str(body["most"])) / book.symbol.step))
    except (InvalidOperation, OverflowError, ValueError):
        raise UserError(what, "most is not a number", 'send {"symbol": "BTCUSDT", "most": "0.002"}') from None
    return {"symbol": name, "most_steps": book.most}


def skew(exchange: Exchange, body: dict[str, Any]) -> dict[str, Any]:
    """{"ms": 3000}: the exchange's clock is ahead by so much; requests are judged by it (-1021), `/time` tells it."""
    value = body.get("ms", 0)
    if not isinstance(value, int):
        raise UserError("the clock cannot be set", "ms is not a whole number", 'send {"ms": 3000}')
    exchange.venue.skew_ms = value
    return {"ms": value}


def limits(exchange: Exchange, body: dict[str, Any]) -> dict[str, Any]:
    """{"enforced": false} switches them, {"forgive": true} begins to count anew; gives the counts (of the perpetuals)."""
    for found in (exchange.door.limits, exchange.door.spot_limits):
        if isinstance(body.get("enforced"), bool):
            found.enforced = body["enforced"]
        if body.get("forgive"):
            found.forgive()
    return dict(exchange.state()["limits"])


def sockets(exchange: Exchange, body: dict[str, Any]) -> dict[str, Any]:
    """{"life_s": 5}: a connection that begins from now on is closed with 1001 after so long; without it after a day."""
    life_s = body.get("life_s", LIFE_S)
    if not isinstance(life_s, int | float) or not life_s > 0:
        raise UserError("the life of connections cannot be set", "life_s is not a positive number", 'send {"life_s": 5}')
    exchange.hub.life_s = float(life_s)
    return {"life_s": exchange.hub.life_s}


def cancel(exchange: Exchange, body: dict[str, Any]) -> dict[str, Any]:
    """{"symbol": "BTCUSDT"}: another hand cancels its conditional orders, stops among them."""
    name = _symbol(exchange, body, "nothing was cancelled")
    gone = [algo.client_id for algo in exchange.venue.engine.floor.live_algos(name)]
    exchange.venue.execute(CancelAllAlgos(name))
    return {"symbol": name, "cancelled": gone}


def _quantity(body: dict[str, Any], what: str) -> Decimal:
    try:
        return Decimal(str(body["quantity"]))
    except (KeyError, InvalidOperation):
        raise UserError(what, "no quantity was named", 'send {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01"}') from None


def _symbol(exchange: Exchange, body: dict[str, Any], what: str) -> str:
    name = str(body.get("symbol", ""))
    if name not in exchange.venue.symbols:
        raise UserError(what, f"{name!r} is not traded here", "see /control/state for what is")
    return name


ACTS: Final[dict[str, Act]] = {
    "trade": trade,
    "autoclose": autoclose,
    "cancel": cancel,
    "symbol": symbol,
    "liquidity": liquidity,
    "skew": skew,
    "limits": limits,
    "sockets": sockets,
}
