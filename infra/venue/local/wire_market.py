"""The market as the exchange writes it: stream messages (as finished text, written once for all who listen) and REST bodies."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from infra.venue.local.books import Book
from infra.venue.local.brackets import brackets_of, max_leverage
from infra.venue.local.filters import max_price
from infra.venue.local.happenings import FundingSettled
from infra.venue.local.klines import INTERVALS, MINUTE_MS, Candle
from infra.venue.local.market.base import Mark, Symbol, Trade
from infra.venue.local.wire import Json

FOREVER: Final = 4_133_404_800_000
INTEREST: Final = "0.00010000"


# --- streams: one finished JSON text each ------------------------------------------------------------------------------------


def trade(symbol: Symbol, event: Trade, trade_id: int) -> str:
    maker = "true" if event.buyer_is_maker else "false"
    return (
        f'{{"e":"trade","E":{event.t},"T":{event.t},"s":"{symbol.name}","st":1,"t":{trade_id},"p":"{event.price * symbol.tick:f}",'
        f'"q":"{event.qty * symbol.step:f}","X":"MARKET","m":{maker}}}'
    )


def agg_trade(symbol: Symbol, event: Trade, trade_id: int) -> str:
    maker = "true" if event.buyer_is_maker else "false"
    qty = f"{event.qty * symbol.step:f}"
    return (
        f'{{"e":"aggTrade","E":{event.t},"s":"{symbol.name}","st":1,"a":{trade_id},"p":"{event.price * symbol.tick:f}",'
        f'"q":"{qty}","nq":"{qty}","f":{trade_id},"l":{trade_id},"T":{event.t},"m":{maker}}}'
    )


def book_ticker(book: Book, update_id: int, t: int) -> str:
    symbol = book.symbol
    bid, bid_qty, ask, ask_qty = book.best()
    return (
        f'{{"e":"bookTicker","u":{update_id},"s":"{symbol.name}","ps":"{symbol.name}","st":1,"b":"{bid * symbol.tick:f}",'
        f'"B":"{bid_qty * symbol.step:f}","a":"{ask * symbol.tick:f}","A":"{ask_qty * symbol.step:f}",'
        f'"T":{book.quote_t or t},"E":{t}}}'
    )


def mark_price(symbol: Symbol, mark: Mark, t: int) -> str:
    return (
        f'{{"e":"markPriceUpdate","E":{t},"s":"{symbol.name}","st":1,"p":"{mark.mark:.8f}","i":"{mark.index:.8f}","P":"{mark.mark:.8f}",'
        f'"ap":"{mark.mark:.8f}","r":"{mark.funding_rate:.8f}","T":{mark.next_funding_t}}}'
    )


def kline(symbol: Symbol, interval: str, candle: Candle, t: int, *, closed: bool, continuous: bool = False) -> str:
    tick, step = symbol.tick, symbol.step
    unit = tick * step
    done = "true" if closed else "false"
    head, own = f'"e":"kline","E":{t},"s":"{symbol.name}","st":1', f'"s":"{symbol.name}",'
    if continuous:
        head, own = f'"e":"continuous_kline","E":{t},"ps":"{symbol.name}","ct":"PERPETUAL","st":1', ""
    return (
        f'{{{head},"k":{{"t":{candle.open_t},"T":{close_t(interval, candle)},'
        f'{own}"i":"{interval}","f":{candle.first_id},"L":{candle.last_id},"o":"{candle.open * tick:f}",'
        f'"c":"{candle.close * tick:f}","h":"{candle.high * tick:f}","l":"{candle.low * tick:f}","v":"{candle.volume * step:f}",'
        f'"n":{candle.trades},"x":{done},"q":"{candle.turnover * unit:f}","V":"{candle.taker_volume * step:f}",'
        f'"Q":"{candle.taker_turnover * unit:f}","B":"0"}}}}'
    )


def close_t(interval: str, candle: Candle) -> int:
    return candle.open_t + INTERVALS[interval] * MINUTE_MS - 1


# --- REST ---------------------------------------------------------------------------------------------------------------------


def kline_row(symbol: Symbol, interval: str, candle: Candle) -> list[Any]:
    tick, step = symbol.tick, symbol.step
    unit = tick * step
    return [
        candle.open_t,
        f"{candle.open * tick:f}",
        f"{candle.high * tick:f}",
        f"{candle.low * tick:f}",
        f"{candle.close * tick:f}",
        f"{candle.volume * step:f}",
        close_t(interval, candle),
        f"{candle.turnover * unit:f}",
        candle.trades,
        f"{candle.taker_volume * step:f}",
        f"{candle.taker_turnover * unit:f}",
        "0",
    ]


def trade_row(symbol: Symbol, row: tuple[int, int, int, int, bool]) -> Json:
    trade_id, t, ticks, steps, maker = row
    return {
        "id": trade_id,
        "price": f"{ticks * symbol.tick:f}",
        "qty": f"{steps * symbol.step:f}",
        "quoteQty": f"{ticks * symbol.tick * steps * symbol.step:f}",
        "time": t,
        "isBuyerMaker": maker,
        "isRPITrade": False,
    }


def agg_trade_row(symbol: Symbol, row: tuple[int, int, int, int, bool]) -> Json:
    trade_id, t, ticks, steps, maker = row
    qty = f"{steps * symbol.step:f}"
    price = f"{ticks * symbol.tick:f}"
    return {"a": trade_id, "p": price, "q": qty, "nq": qty, "f": trade_id, "l": trade_id, "T": t, "m": maker}


def depth(book: Book, limit: int, update_id: int, t: int) -> Json:
    def side(taker: str) -> list[list[str]]:
        symbol = book.symbol
        levels = list(book.levels("BUY" if taker == "BUY" else "SELL"))[:limit]
        return [[f"{ticks * symbol.tick:f}", f"{steps * symbol.step:f}"] for ticks, steps in levels if steps]

    return {"lastUpdateId": update_id, "E": t, "T": book.quote_t or t, "bids": side("SELL"), "asks": side("BUY")}


def book_ticker_row(book: Book, t: int) -> Json:
    symbol = book.symbol
    bid, bid_qty, ask, ask_qty = book.best()
    return {
        "symbol": symbol.name,
        "bidPrice": f"{bid * symbol.tick:f}",
        "bidQty": f"{bid_qty * symbol.step:f}",
        "askPrice": f"{ask * symbol.tick:f}",
        "askQty": f"{ask_qty * symbol.step:f}",
        "time": book.quote_t or t,
    }


def premium_index(symbol: Symbol, mark: Mark, t: int) -> Json:
    return {
        "symbol": symbol.name,
        "pair": symbol.name,
        "markPrice": f"{mark.mark:.8f}",
        "indexPrice": f"{mark.index:.8f}",
        "estimatedSettlePrice": f"{mark.mark:.8f}",
        "lastFundingRate": f"{mark.funding_rate:.8f}",
        "interestRate": INTEREST,
        "nextFundingTime": mark.next_funding_t,
        "time": t,
    }


def funding_row(settled: FundingSettled) -> Json:
    return {
        "symbol": settled.symbol,
        "fundingRate": f"{settled.rate:.8f}",
        "fundingTime": settled.t,
        "markPrice": f"{settled.mark:.8f}",
        "rateType": "Regular",
    }


def leverage_brackets(symbol: Symbol) -> Json:
    rows = [
        {
            "bracket": b.number,
            "initialLeverage": b.leverage,
            "notionalCap": int(b.cap),
            "notionalFloor": int(b.floor),
            "maintMarginRatio": float(b.ratio),
            "cum": float(b.cum),
        }
        for b in brackets_of(symbol.base)
    ]
    return {"symbol": symbol.name, "notionalCoef": 1.0, "brackets": rows}


def exchange_info(symbols: tuple[Symbol, ...], server_ms: int, status: dict[str, str]) -> Json:
    limits = [("REQUEST_WEIGHT", "MINUTE", 1, 2400), ("ORDERS", "MINUTE", 1, 1200), ("ORDERS", "SECOND", 10, 300)]
    return {
        "timezone": "UTC",
        "serverTime": server_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [{"rateLimitType": k, "interval": i, "intervalNum": n, "limit": limit} for k, i, n, limit in limits],
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [{**symbol_info(symbol), "status": status[symbol.name]} for symbol in symbols],
    }


def symbol_info(symbol: Symbol) -> Json:
    step, least = f"{symbol.step:f}", f"{symbol.min_qty:f}"
    filters: list[Json] = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": f"{symbol.tick:f}",
            "maxPrice": f"{max_price(symbol):f}",
            "tickSize": f"{symbol.tick:f}",
        },
        {"filterType": "LOT_SIZE", "minQty": least, "maxQty": f"{symbol.max_qty:f}", "stepSize": step},
        {"filterType": "MARKET_LOT_SIZE", "minQty": least, "maxQty": f"{symbol.market_max_qty:f}", "stepSize": step},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": f"{symbol.min_notional:f}"},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]
    return {
        "symbol": symbol.name,
        "pair": symbol.name,
        "contractType": "PERPETUAL",
        "deliveryDate": FOREVER,
        "onboardDate": 1_569_398_400_000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": f"{Decimal(500) / max_leverage(symbol.base):.4f}",
        "baseAsset": symbol.base,
        "quoteAsset": symbol.quote,
        "marginAsset": symbol.quote,
        "pricePrecision": symbol.price_precision,
        "quantityPrecision": symbol.quantity_precision,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "settlePlan": 0,
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "permissionSets": ["GRID", "COPY"],
        "filters": filters,
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTE_GTC"],
    }
