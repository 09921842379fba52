"""Binance's words -> ours. Unknown fields are ignored: new ones appear all the time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from infra.venue.binance.filters import instrument_of
from infra.venue.port import (
    Ack,
    BestQuote,
    Book,
    Kline,
    Levels,
    Listing,
    MarketEvent,
    MarkPrice,
    OrderSeen,
    PositionSeen,
    PublicTrade,
    TradeSeen,
    UserEvent,
    VenueAccount,
    VenueFill,
    VenueOrder,
    VenuePosition,
)
from schemas.units import OrderSide

Wire = Mapping[str, Any]
ASCII_SYMBOL = re.compile(r"[A-Z0-9_]+")
"""Others exist, and are no instruments of ours."""
_instrument = lru_cache(maxsize=4096)(instrument_of)


def kline(row: list[Any]) -> Kline:
    o, h, l, c, v = (float(cell) for cell in row[1:6])  # noqa: E741
    return Kline(int(row[0]), o, h, l, c, v, trades=int(row[8]), quote=float(row[7]), taker_buy=float(row[9]))


def agg_trade(row: Wire) -> PublicTrade:
    """Also a stream's aggTrade: the same letters."""
    return PublicTrade(row["a"], row["T"], float(row["p"]), float(row["q"]), row["m"])


def listings(info: Wire, day: Iterable[Wire]) -> list[Listing]:
    """Of exchangeInfo and ticker/24hr."""
    volumes = {row["symbol"]: Decimal(row["quoteVolume"]) for row in day}
    return [
        Listing(
            instrument_of(row["symbol"]),
            row["baseAsset"],
            row["quoteAsset"],
            row["status"],
            row.get("contractType", "PERPETUAL") == "PERPETUAL",
            volumes.get(row["symbol"]),
        )
        for row in info["symbols"]
        if ASCII_SYMBOL.fullmatch(row["symbol"])
    ]


def levels(row: Wire) -> Levels:
    bids, asks = ([(Decimal(price), Decimal(quantity)) for price, quantity in row[side]] for side in ("bids", "asks"))
    return bids, asks


def premium(row: Wire) -> MarkPrice:
    return MarkPrice(
        instrument_of(row["symbol"]),
        int(row["time"]),
        float(row["markPrice"]),
        float(row["indexPrice"]),
        float(row["lastFundingRate"]),
        int(row["nextFundingTime"]),
    )


def market_event(message: Wire) -> MarketEvent | None:
    """A message of a combined stream: {"stream": "btcusdt@aggTrade", "data": {...}}."""
    row = message.get("data", message)
    match row.get("e"):
        case "aggTrade":
            return TradeSeen(_instrument(row["s"]), row["E"], agg_trade(row))
        case "markPriceUpdate":
            return MarkPrice(
                _instrument(row["s"]), row["E"], float(row["p"]), float(row["i"]), float(row["r"] or 0), int(row["T"] or 0)
            )
        case "bookTicker":
            return BestQuote(_instrument(row["s"]), float(row["b"]), float(row["a"]))
        case _:
            return None


def ack(row: Wire) -> Ack:
    return Ack(str(row["orderId"]), row["clientOrderId"], row["status"])


def algo_ack(row: Wire) -> Ack:
    return Ack(str(row["algoId"]), row["clientAlgoId"], row["algoStatus"])


def order(row: Wire) -> VenueOrder:
    """An entry of order, openOrders, allOrders."""
    return VenueOrder(
        book=Book.ORDER,
        instrument=instrument_of(row["symbol"]),
        exchange_id=str(row["orderId"]),
        client_id=row["clientOrderId"],
        side=OrderSide(row["side"]),
        type=row.get("origType") or row["type"],
        status=row["status"],
        quantity=money(row.get("origQty")),
        filled=money(row.get("executedQty")),
        average_price=money(row.get("avgPrice")),
        price=money(row.get("price")),
        trigger_price=money(row.get("stopPrice")),
        close_position=bool(row.get("closePosition", False)),
        reduce_only=bool(row.get("reduceOnly", False)),
        child_order_id=None,
        at=int(row.get("updateTime") or row.get("time") or 0),
    )


def algo_order(row: Wire) -> VenueOrder:
    """An entry of algoOrder, openAlgoOrders."""
    child = row.get("actualOrderId")
    return VenueOrder(
        book=Book.ALGO,
        instrument=instrument_of(row["symbol"]),
        exchange_id=str(row["algoId"]),
        client_id=row["clientAlgoId"],
        side=OrderSide(row["side"]),
        type=row.get("orderType") or row["type"],
        status=row["algoStatus"],
        quantity=money(row.get("quantity")),
        filled=money(row.get("actualQty")),
        average_price=money(row.get("actualPrice")),
        price=money(row.get("price")),
        trigger_price=money(row.get("triggerPrice")),
        close_position=bool(row.get("closePosition", False)),
        reduce_only=bool(row.get("reduceOnly", False)),
        child_order_id=str(child) if child else None,
        at=int(row.get("updateTime") or row.get("createTime") or 0),
    )


def position(row: Wire) -> VenuePosition:
    return VenuePosition(
        instrument=instrument_of(row["symbol"]),
        quantity=money(row["positionAmt"]),
        entry_price=money(row["entryPrice"]),
        mark=money(row["markPrice"]),
        liquidation_price=money(row.get("liquidationPrice")),
        unrealized_pnl=money(row.get("unRealizedProfit")),
        at=int(row.get("updateTime") or 0),
    )


def account(row: Wire) -> VenueAccount:
    return VenueAccount(
        wallet=money(row["totalWalletBalance"]),
        equity=money(row["totalMarginBalance"]),
        available=money(row["availableBalance"]),
        unrealized_pnl=money(row["totalUnrealizedProfit"]),
    )


def user_trade(row: Wire) -> VenueFill:
    return VenueFill(
        instrument=instrument_of(row["symbol"]),
        trade_id=int(row["id"]),
        order_id=str(row["orderId"]),
        client_id=row.get("clientOrderId", ""),
        side=OrderSide(row["side"]),
        price=money(row["price"]),
        quantity=money(row["qty"]),
        fee=money(row["commission"]),
        fee_asset=row["commissionAsset"],
        realized_pnl=money(row["realizedPnl"]),
        maker=bool(row["maker"]),
        at=int(row["time"]),
    )


def user_event(row: Wire) -> UserEvent | None:
    """None for what we do not act on: TRADE_LITE (it comes without its fee), configuration, margin calls."""
    match row.get("e"):
        case "ORDER_TRADE_UPDATE":
            return _order_trade_update(row["o"], int(row.get("T") or row["E"]))
        case "ALGO_UPDATE":
            return _algo_update(row["o"], int(row.get("T") or row["E"]))
        case "ACCOUNT_UPDATE":
            moved = tuple((instrument_of(p["s"]), money(p["pa"])) for p in row["a"].get("P", ()))
            return PositionSeen(int(row.get("T") or row["E"]), moved)
        case _:
            return None


def _order_trade_update(o: Wire, at: int) -> OrderSeen:
    seen = VenueOrder(
        book=Book.ORDER,
        instrument=instrument_of(o["s"]),
        exchange_id=str(o["i"]),
        client_id=o["c"],
        side=OrderSide(o["S"]),
        type=o.get("ot") or o["o"],
        status=o["X"],
        quantity=money(o.get("q")),
        filled=money(o.get("z")),
        average_price=money(o.get("ap")),
        price=money(o.get("p")),
        trigger_price=money(o.get("sp")),
        close_position=bool(o.get("cp", False)),
        reduce_only=bool(o.get("R", False)),
        child_order_id=None,
        at=int(o.get("T") or at),
    )
    fill = None
    # CALCULATED: the exchange liquidates; its trades move the position like any other
    if o["x"] in ("TRADE", "CALCULATED") and int(o.get("t") or 0) > 0:
        fill = fill_of(seen, o, "USDT")
    return OrderSeen(seen, o["x"], str(o.get("er") or ""), fill)


def fill_of(seen: VenueOrder, o: Wire, fee_asset: str) -> VenueFill:
    """The trade that an order's event tells. `fee_asset`: where the event names none."""
    return VenueFill(
        instrument=seen.instrument,
        trade_id=int(o["t"]),
        order_id=seen.exchange_id,
        client_id=seen.client_id,
        side=seen.side,
        price=money(o["L"]),
        quantity=money(o["l"]),
        fee=money(o.get("n")),
        fee_asset=o.get("N") or fee_asset,
        realized_pnl=money(o.get("rp")),
        maker=bool(o.get("m", False)),
        at=seen.at,
    )


def _algo_update(o: Wire, at: int) -> OrderSeen:
    """Early events lack ap, aq and act; `ai` names the child once it has triggered."""
    child = o.get("ai")
    seen = VenueOrder(
        book=Book.ALGO,
        instrument=instrument_of(o["s"]),
        exchange_id=str(o["aid"]),
        client_id=o["caid"],
        side=OrderSide(o["S"]),
        type=o["o"],
        status=o["X"],
        quantity=money(o.get("q")),
        filled=money(o.get("aq")),
        average_price=money(o.get("ap")),
        price=money(o.get("p")),
        trigger_price=money(o.get("tp")),
        close_position=bool(o.get("cp", False)),
        reduce_only=bool(o.get("R", False)),
        child_order_id=str(child) if child and str(child) != "0" else None,
        at=int(o.get("ut") or at),
    )
    return OrderSeen(seen, o["X"], str(o.get("rm") or ""))


def money(value: Any) -> Decimal:
    """Nothing and "" read as zero: Binance leaves out what does not apply."""
    return Decimal(str(value)) if value not in (None, "") else Decimal(0)
