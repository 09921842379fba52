"""Spot filters: what a price and a quantity must look like, refused by the filter's name (-1013)."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from infra.venue.local.filters import max_price
from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import Side
from infra.venue.local.spot.refusals import filtered, imprecise
from infra.venue.local.spot.symbols import MAX_NOTIONAL

MAX_ORDERS: Final = 200
MAX_ALGOS: Final = 5
MAX_LISTS: Final = 20
BID_BAND: Final = (Decimal("0.2"), Decimal("1.2"))  # PERCENT_PRICE_BY_SIDE, parts of the last price: buys
ASK_BAND: Final = (Decimal("0.8"), Decimal(5))
PLACES: Final = 8


def ticks(symbol: Symbol, price: Decimal, parameter: str) -> int:
    _check_places(price, parameter)
    count, rest = divmod(price, symbol.tick)
    if rest or count < 1 or price > max_price(symbol):
        raise filtered("PRICE_FILTER")
    return int(count)


def steps(symbol: Symbol, qty: Decimal, *, market: bool) -> int:
    _check_places(qty, "quantity")
    count, rest = divmod(qty, symbol.step)
    if rest or qty < symbol.min_qty or qty > symbol.max_qty:
        raise filtered("LOT_SIZE")
    if market and qty > symbol.market_max_qty:
        raise filtered("MARKET_LOT_SIZE")
    return int(count)


def _check_places(value: Decimal, parameter: str) -> None:
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > PLACES:
        raise imprecise(parameter)


def check_notional(symbol: Symbol, price: int, qty: int) -> None:
    if not symbol.min_notional <= price * symbol.tick * qty * symbol.step <= MAX_NOTIONAL:
        raise filtered("NOTIONAL")


def check_band(side: Side, price: int, last: int) -> None:
    low, high = BID_BAND if side == "BUY" else ASK_BAND
    if not low * last <= price <= high * last:
        raise filtered("PERCENT_PRICE_BY_SIDE")
