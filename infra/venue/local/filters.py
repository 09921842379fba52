"""The exchange's filters: what a price, a quantity and an id must look like before the engine thinks about them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import Side
from infra.venue.local.refusals import illegal, refuse, too_little

CLIENT_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
TAKE_BOUND: Final = Decimal("0.05")  # marketTakeBound: so far from the mark a market order takes
PRICE_BAND: Final = Decimal("0.05")  # PERCENT_PRICE: limit prices within this part of the mark


def check_client_id(client_id: str, parameter: str) -> None:
    if len(client_id) > 36:
        raise refuse(-4015)
    if not CLIENT_ID.fullmatch(client_id):
        raise illegal(parameter)


def max_price(symbol: Symbol) -> Decimal:
    return max(Decimal(1), (symbol.base_price * 50).quantize(Decimal(1)))


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def ticks(symbol: Symbol, price: Decimal) -> int:
    """A limit price in ticks."""
    if price <= 0:
        raise refuse(-4001)
    if price > max_price(symbol):
        raise refuse(-4002)
    return _on_grid(price, symbol.tick, symbol.price_precision, -4014)


def trigger_ticks(symbol: Symbol, price: Decimal) -> int:
    """A trigger price in ticks."""
    if price <= 0:
        raise refuse(-4006)
    if price > max_price(symbol):
        raise refuse(-4002)
    return _on_grid(price, symbol.tick, symbol.price_precision, -4014)


def steps(symbol: Symbol, qty: Decimal, *, market: bool) -> int:
    """A quantity in steps, within the bounds of the order's kind."""
    if qty <= 0:
        raise refuse(-4003)
    if qty > (symbol.market_max_qty if market else symbol.max_qty):
        raise refuse(-4005)
    count = _on_grid(qty, symbol.step, symbol.quantity_precision, -4023)
    if qty < symbol.min_qty:
        raise refuse(-4004)
    return count


def _on_grid(value: Decimal, unit: Decimal, precision: int, off_grid: int) -> int:
    if _decimals(value) > precision:
        raise refuse(-1111)
    count, rest = divmod(value, unit)
    if rest:
        raise refuse(off_grid)
    return int(count)


def take_bound(symbol: Symbol, side: Side, mark: Decimal) -> int:
    """The worst price in ticks at which a market order may take."""
    part = TAKE_BOUND if side == "BUY" else -TAKE_BOUND
    return max(1, int(mark * (1 + part) / symbol.tick))


def check_notional(symbol: Symbol, price: int, qty: int) -> None:
    if price * symbol.tick * qty * symbol.step < symbol.min_notional:
        raise too_little(f"{symbol.min_notional:f}")


def check_band(symbol: Symbol, side: Side, price: int, mark: Decimal) -> None:
    """A limit may not stand beyond the band on the side where it would trade."""
    value = price * symbol.tick
    if side == "BUY" and value > mark * (1 + PRICE_BAND):
        raise refuse(-4016)
    if side == "SELL" and value < mark * (1 - PRICE_BAND):
        raise refuse(-4024)
