"""Spot as REST and the user stream write it: eight decimals everywhere."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from infra.venue.local.books import Book
from infra.venue.local.filters import max_price
from infra.venue.local.market.base import Symbol
from infra.venue.local.spot import filters
from infra.venue.local.spot.market import FEE, Spot
from infra.venue.local.spot.orders import (
    CONDITIONAL,
    NOT_YET,
    BalancesChanged,
    ListChanged,
    OrderList,
    SpotChanged,
    SpotFill,
    SpotHappening,
    SpotOrder,
)
from infra.venue.local.spot.symbols import MAX_NOTIONAL
from infra.venue.local.wire import Json

LIMITS: Final = (
    ("REQUEST_WEIGHT", "MINUTE", 1, 6_000),
    ("ORDERS", "SECOND", 10, 100),
    ("ORDERS", "DAY", 1, 200_000),
    ("RAW_REQUESTS", "MINUTE", 5, 61_000),
)
TYPES: Final = ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]
MODES: Final = ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"]


def money(value: Decimal) -> str:
    return f"{value:.8f}"


def _price(symbol: Symbol, ticks: int) -> str:
    return money(ticks * symbol.tick)


def _qty(symbol: Symbol, steps: int) -> str:
    return money(steps * symbol.step)


# --- orders -------------------------------------------------------------------------------------------------------------------


def ack(order: SpotOrder) -> Json:
    return {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "transactTime": order.updated_t,
    }


def _body(symbol: Symbol, order: SpotOrder) -> Json:
    """What every longer answer about an order says."""
    body = {
        "price": _price(symbol, order.price),
        "origQty": _qty(symbol, order.qty),
        "executedQty": _qty(symbol, order.filled),
        "origQuoteOrderQty": money(order.quote_qty),
        "cummulativeQuoteQty": money(order.turnover),
        "status": order.status,
        "timeInForce": order.tif,
        "type": order.type,
        "side": order.side,
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }
    if order.type in CONDITIONAL:
        body["stopPrice"] = _price(symbol, order.stop)
    if order.status == "EXPIRED":
        body["expiryReason"] = order.expiry
    return body


def result(symbol: Symbol, order: SpotOrder) -> Json:
    return {**ack(order), **_body(symbol, order), "workingTime": order.working_t}


def full(symbol: Symbol, order: SpotOrder, fills: list[SpotFill]) -> Json:
    rows = [
        {
            "price": _price(symbol, fill.price),
            "qty": _qty(symbol, fill.qty),
            "commission": money(fill.fee),
            "commissionAsset": fill.fee_asset,
            "tradeId": fill.id,
        }
        for fill in fills
    ]
    return {**result(symbol, order), "fills": rows}


def cancelled(symbol: Symbol, order: SpotOrder) -> Json:
    """The cancel has a client id of its own."""
    return {
        **ack(order),
        "origClientOrderId": order.client_id,
        "clientOrderId": order.cancel_id,
        **_body(symbol, order),
    }


def query(symbol: Symbol, order: SpotOrder) -> Json:
    head = ack(order)
    del head["transactTime"]
    return {
        **head,
        **_body(symbol, order),
        "stopPrice": _price(symbol, order.stop),
        "icebergQty": money(Decimal(0)),
        "time": order.created_t,
        "updateTime": order.updated_t,
        "isWorking": order.working_t != NOT_YET,
        "workingTime": order.working_t,
    }


def trade(symbol: Symbol, fill: SpotFill) -> Json:
    return {
        "symbol": fill.symbol,
        "id": fill.id,
        "orderId": fill.order_id,
        "orderListId": fill.list_id,
        "price": _price(symbol, fill.price),
        "qty": _qty(symbol, fill.qty),
        "quoteQty": money(fill.quote),
        "commission": money(fill.fee),
        "commissionAsset": fill.fee_asset,
        "time": fill.t,
        "isBuyer": fill.side == "BUY",
        "isMaker": fill.maker,
        "isBestMatch": True,
    }


def order_list(spot: Spot, found: OrderList) -> Json:
    status = ("ALL_DONE", "ALL_DONE") if found.is_done else ("EXEC_STARTED", "EXECUTING")
    orders = [spot.orders[number] for number in found.orders]
    return {
        "orderListId": found.id,
        "contingencyType": "OCO",
        "listStatusType": status[0],
        "listOrderStatus": status[1],
        "listClientOrderId": found.client_id,
        "transactionTime": found.t,
        "symbol": found.symbol,
        "orders": [{"symbol": o.symbol, "orderId": o.id, "clientOrderId": o.client_id} for o in orders],
    }


# --- account and market -------------------------------------------------------------------------------------------------------


def account(spot: Spot, *, omit_zero: bool) -> Json:
    rows = spot.balances.rows(spot.balances.total)
    rate, part = money(FEE), int(FEE * 10_000)
    return {
        "makerCommission": part,
        "takerCommission": part,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": rate, "taker": rate, "buyer": money(Decimal(0)), "seller": money(Decimal(0))},
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": spot.updated_t,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": money(free), "locked": money(locked)}
            for asset, free, locked in rows
            if free or locked or not omit_zero
        ],
        "permissions": ["SPOT"],
        "uid": 1,
    }


def depth(book: Book, limit: int, update_id: int) -> Json:
    def side(taker: str) -> list[list[str]]:
        levels = [row for row in book.levels("BUY" if taker == "BUY" else "SELL") if row[1]]
        return [[_price(book.symbol, ticks), _qty(book.symbol, steps)] for ticks, steps in levels[:limit]]

    return {"lastUpdateId": update_id, "bids": side("SELL"), "asks": side("BUY")}


def book_ticker(book: Book) -> Json:
    bid, bid_qty, ask, ask_qty = book.best()
    symbol = book.symbol
    return {
        "symbol": symbol.name,
        "bidPrice": _price(symbol, bid),
        "bidQty": _qty(symbol, bid_qty),
        "askPrice": _price(symbol, ask),
        "askQty": _qty(symbol, ask_qty),
    }


def exchange_info(symbols: list[Symbol], server_ms: int, status: dict[str, str]) -> Json:
    return {
        "timezone": "UTC",
        "serverTime": server_ms,
        "rateLimits": [{"rateLimitType": k, "interval": i, "intervalNum": n, "limit": limit} for k, i, n, limit in LIMITS],
        "exchangeFilters": [],
        "symbols": [symbol_info(symbol, status[symbol.name]) for symbol in symbols],
    }


def symbol_info(symbol: Symbol, status: str) -> Json:
    least, step, tick = money(symbol.min_qty), money(symbol.step), money(symbol.tick)
    rules: list[Json] = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": money(max_price(symbol)), "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": least, "maxQty": money(symbol.max_qty), "stepSize": step},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": money(Decimal(0)),
            "maxQty": money(symbol.market_max_qty),
            "stepSize": money(Decimal(0)),
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": str(filters.BID_BAND[1]),
            "bidMultiplierDown": str(filters.BID_BAND[0]),
            "askMultiplierUp": str(filters.ASK_BAND[1]),
            "askMultiplierDown": str(filters.ASK_BAND[0]),
            "avgPriceMins": 0,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": money(symbol.min_notional),
            "applyMinToMarket": True,
            "maxNotional": money(MAX_NOTIONAL),
            "applyMaxToMarket": True,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": filters.MAX_ORDERS},
        {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": filters.MAX_LISTS},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": filters.MAX_ALGOS},
    ]
    return {
        "symbol": symbol.name,
        "status": "TRADING" if status == "TRADING" else "BREAK",
        "baseAsset": symbol.base,
        "baseAssetPrecision": filters.PLACES,
        "quoteAsset": symbol.quote,
        "quotePrecision": filters.PLACES,
        "quoteAssetPrecision": filters.PLACES,
        "baseCommissionPrecision": filters.PLACES,
        "quoteCommissionPrecision": filters.PLACES,
        "orderTypes": TYPES,
        "icebergAllowed": False,
        "ocoAllowed": True,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": rules,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": MODES,
    }


# --- user stream --------------------------------------------------------------------------------------------------------------


def event(spot: Spot, happened: SpotHappening) -> Json:
    match happened:
        case SpotChanged():
            return execution_report(spot.symbols[happened.order.symbol], happened)
        case BalancesChanged():
            rows = [{"a": asset, "f": money(free), "l": money(locked)} for asset, free, locked in happened.rows]
            return {"e": "outboundAccountPosition", "E": happened.t, "u": happened.t, "B": rows}
        case ListChanged():
            return list_status(happened)


def execution_report(symbol: Symbol, happened: SpotChanged) -> Json:
    order, fill = happened.order, happened.fill
    cancels = happened.execution == "CANCELED"
    report: dict[str, Any] = {
        "e": "executionReport",
        "E": happened.t,
        "s": order.symbol,
        "c": order.cancel_id if cancels else order.client_id,
        "S": order.side,
        "o": order.type,
        "f": order.tif,
        "q": _qty(symbol, order.qty),
        "p": _price(symbol, order.price),
        "P": _price(symbol, order.stop),
        "F": money(Decimal(0)),
        "g": order.list_id,
        "C": order.client_id if cancels else "",
        "x": happened.execution,
        "X": order.status,
        "r": "NONE",
        "i": order.id,
        "l": _qty(symbol, fill.qty if fill else 0),
        "z": _qty(symbol, order.filled),
        "L": _price(symbol, fill.price if fill else 0),
        "n": money(fill.fee) if fill else "0",
        "N": fill.fee_asset if fill else None,
        "T": happened.t,
        "t": fill.id if fill else -1,
        "I": happened.number,
        "w": order.is_open and order.working_t != NOT_YET,
        "m": fill.maker if fill else False,
        "M": False,
        "O": order.created_t,
        "Z": money(order.turnover),
        "Y": money(fill.quote if fill else Decimal(0)),
        "Q": money(order.quote_qty),
        "V": "EXPIRE_MAKER",
    }
    if order.working_t != NOT_YET:
        report["W"] = order.working_t
    if happened.execution == "EXPIRED":
        report["eR"] = order.expiry
    return report


def list_status(happened: ListChanged) -> Json:
    found = happened.list
    status = ("ALL_DONE", "ALL_DONE") if found.is_done else ("EXEC_STARTED", "EXECUTING")
    pairs = zip(found.orders, happened.clients, strict=True)
    return {
        "e": "listStatus",
        "E": happened.t,
        "s": found.symbol,
        "g": found.id,
        "c": "OCO",
        "l": status[0],
        "L": status[1],
        "r": "NONE",
        "C": found.client_id,
        "T": found.t,
        "O": [{"s": found.symbol, "i": number, "c": client_id} for number, client_id in pairs],
    }
