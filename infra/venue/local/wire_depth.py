"""Depth, 24-hour tickers and forced orders as streams and REST write them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

from infra.venue.local.books import Book
from infra.venue.local.klines import Candle, Candles
from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import Order
from infra.venue.local.wire import Json, average, price, qty

Side = dict[int, int]  # ticks -> steps
Ladder = tuple[Side, Side]  # bids, asks
DAY_ROWS: Final = 288  # 5-minute candles


def ladder(book: Book) -> Ladder:
    return {p: q for p, q in book.levels("SELL") if q}, {p: q for p, q in book.levels("BUY") if q}


def top(now: Ladder, levels: int) -> Ladder:
    bids, asks = (dict(list(side.items())[:levels]) for side in now)
    return bids, asks


def changes(before: Ladder | None, now: Ladder) -> Ladder:
    """Levels that differ; what is gone has 0."""
    if before is None:
        return now
    bids, asks = (_changed(old, new) for old, new in zip(before, now, strict=True))
    return bids, asks


def _changed(old: Side, new: Side) -> Side:
    return {p: 0 for p in old if p not in new} | {p: q for p, q in new.items() if old.get(p) != q}


def depth_update(book: Book, shown: Ladder, first: int, last: int, before: int, t: int) -> str:
    symbol = book.symbol
    sides = [[[price(symbol, p), qty(symbol, q)] for p, q in side.items()] for side in shown]
    body = {"e": "depthUpdate", "E": t, "T": book.quote_t or t, "s": symbol.name, "ps": symbol.name, "st": 1}
    return _text({**body, "U": first, "u": last, "pu": before, "b": sides[0], "a": sides[1]})


def force_order(symbol: Symbol, order: Order) -> str:
    body = {
        "s": order.symbol,
        "ps": order.symbol,
        "S": order.side,
        "o": order.type,
        "f": order.tif,
        "q": qty(symbol, order.qty),
        "p": price(symbol, order.price),
        "ap": average(symbol, order.turnover, order.filled),
        "X": order.status,
        "l": qty(symbol, order.filled),
        "z": qty(symbol, order.filled),
        "T": order.updated_t,
        "st": 1,
    }
    return _text({"e": "forceOrder", "E": order.updated_t, "o": body})


# --- 24 hours -----------------------------------------------------------------------------------------------------------------


def day_of(candles: Candles) -> Candle:
    """The last 24 hours as one candle, by whole 5 minutes."""
    rows = candles.range("5m", None, None, DAY_ROWS)
    day = rows[0].copy()
    for row in rows[1:]:
        day.merge(row)
    return day


def day_row(symbol: Symbol, candles: Candles, t: int) -> Json:
    """The REST answer of ticker/24hr."""
    day = day_of(candles)
    unit = symbol.tick * symbol.step
    volume, turnover = day.volume * symbol.step, day.turnover * unit
    change = (day.close - day.open) * symbol.tick
    return {
        "symbol": symbol.name,
        "priceChange": f"{change:f}",
        "priceChangePercent": f"{Decimal(100) * (day.close - day.open) / day.open:.3f}",
        "weightedAvgPrice": f"{(turnover / volume if volume else day.close * symbol.tick).quantize(symbol.tick / 100):f}",
        "lastPrice": price(symbol, day.close),
        "lastQty": qty(symbol, 1),
        "openPrice": price(symbol, day.open),
        "highPrice": price(symbol, day.high),
        "lowPrice": price(symbol, day.low),
        "volume": f"{volume:f}",
        "quoteVolume": f"{turnover:f}",
        "openTime": day.open_t,
        "closeTime": t,
        "firstId": max(0, day.first_id),
        "lastId": max(0, day.last_id),
        "count": day.trades,
    }


_LETTERS: Final = {
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}


def ticker(symbol: Symbol, candles: Candles, t: int) -> str:
    row = day_row(symbol, candles, t)
    head = {"e": "24hrTicker", "E": t, "s": symbol.name, "ps": symbol.name, "st": 1}
    return _text({**head, **{letter: row[name] for letter, name in _LETTERS.items()}})


def mini_ticker(symbol: Symbol, candles: Candles, t: int) -> str:
    row = day_row(symbol, candles, t)
    head = {"e": "24hrMiniTicker", "E": t, "s": symbol.name, "ps": symbol.name, "st": 1}
    return _text({**head, **{letter: row[_LETTERS[letter]] for letter in "cohlvq"}})


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"))
