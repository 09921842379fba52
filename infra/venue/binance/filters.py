"""Filters of exchangeInfo, and what the exchange would object to. Rounding is a decision: processors/filters.py.

Ticks and steps come from the filters; `pricePrecision` is not a tick (BTCUSDT: precision 2, tick 0.10).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from infra.venue.port import Filters
from schemas import ids

VENUE, MARKET, SPOT = "binance", "usdm", "spot"


def instrument_of(symbol: str, market: str = MARKET) -> str:
    return ids.instrument(VENUE, market, symbol)


def parse_filters(symbol: Mapping[str, Any]) -> Filters:
    """One entry of exchangeInfo's `symbols`. Raises KeyError where a filter that we rely on is missing."""
    found = {entry["filterType"]: entry for entry in symbol["filters"]}
    price, lot = found["PRICE_FILTER"], found["LOT_SIZE"]
    percent = found.get("PERCENT_PRICE", {})
    return Filters(
        instrument=instrument_of(symbol["symbol"]),
        tick=Decimal(price["tickSize"]),
        step=Decimal(lot["stepSize"]),
        min_quantity=Decimal(lot["minQty"]),
        max_quantity=Decimal(lot["maxQty"]),
        market_max_quantity=Decimal(found.get("MARKET_LOT_SIZE", lot)["maxQty"]),
        min_notional=Decimal(str(found["MIN_NOTIONAL"]["notional"])),
        min_price=Decimal(price["minPrice"]),
        max_price=Decimal(price["maxPrice"]),
        up_multiplier=Decimal(percent.get("multiplierUp", "1.05")),
        down_multiplier=Decimal(percent.get("multiplierDown", "0.95")),
        trading=symbol.get("status") == "TRADING" and symbol.get("contractType", "PERPETUAL") == "PERPETUAL",
    )


def parse_spot_filters(symbol: Mapping[str, Any]) -> Filters:
    """The same of spot, which names some of them otherwise; a market lot of 0 is none of its own. The band is a seller's."""
    found = {entry["filterType"]: entry for entry in symbol["filters"]}
    price, lot = found["PRICE_FILTER"], found["LOT_SIZE"]
    percent = found.get("PERCENT_PRICE_BY_SIDE", {})
    notional = found.get("NOTIONAL") or found["MIN_NOTIONAL"]
    return Filters(
        instrument=instrument_of(symbol["symbol"], SPOT),
        tick=Decimal(price["tickSize"]),
        step=Decimal(lot["stepSize"]),
        min_quantity=Decimal(lot["minQty"]),
        max_quantity=Decimal(lot["maxQty"]),
        market_max_quantity=Decimal(found.get("MARKET_LOT_SIZE", lot)["maxQty"]) or Decimal(lot["maxQty"]),
        min_notional=Decimal(notional["minNotional"]),
        min_price=Decimal(price["minPrice"]),
        max_price=Decimal(price["maxPrice"]),
        up_multiplier=Decimal(percent.get("askMultiplierUp", "5")),
        down_multiplier=Decimal(percent.get("askMultiplierDown", "0.2")),
        trading=symbol.get("status") == "TRADING" and bool(symbol.get("isSpotTradingAllowed", True)),
    )


def objection(
    filters: Filters,
    quantity: Decimal,
    price: Decimal | None,
    reference: Decimal,
    *,
    reduces: bool,
    market: bool = False,
) -> str | None:
    """Why the exchange would refuse this order, or None. `reference`: mark price; an order that only reduces may be small."""
    most = min(filters.max_quantity, filters.market_max_quantity) if market else filters.max_quantity
    if not filters.trading and not reduces:
        return f"{filters.instrument} is not open for trading"
    if quantity <= 0 or quantity % filters.step:
        return f"quantity {quantity} is not a positive multiple of {filters.step}"
    if quantity < filters.min_quantity or quantity > most:
        return f"quantity {quantity} is outside {filters.min_quantity} .. {most}"
    if price is not None:
        if price <= 0 or price % filters.tick:
            return f"price {price} is not a positive multiple of {filters.tick}"
        if price < filters.min_price or price > filters.max_price:
            return f"price {price} is outside {filters.min_price} .. {filters.max_price}"
    notional = quantity * (price if price is not None else reference)
    if not reduces and notional < filters.min_notional:
        return f"notional {notional} is below {filters.min_notional}"
    return None
