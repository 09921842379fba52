"""An instrument's trading filters, and rounding that never loosens: quantities down, stops toward the market.

A tick is the filter's own number, never derived from a price's precision (the exchange states both and they differ).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from schemas.units import Side


class Filters(NamedTuple):
    """`max_quantity` is that of market orders, the smaller of the two that the exchange states."""

    tick: Decimal
    step: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    min_notional: Decimal


FilterBook = Mapping[str, Filters]
"""Filters by instrument, read from the exchange when a worker starts."""


def floor_to(value: Decimal, unit: Decimal) -> Decimal:
    return (value / unit).to_integral_value(ROUND_FLOOR) * unit


def ceil_to(value: Decimal, unit: Decimal) -> Decimal:
    return (value / unit).to_integral_value(ROUND_CEILING) * unit


def quantity(value: Decimal, filters: Filters) -> Decimal:
    """Down to the step and to the largest that one market order may carry; zero when below the smallest."""
    rounded = floor_to(min(value, filters.max_quantity), filters.step)
    return rounded if rounded >= filters.min_quantity else Decimal(0)


def stop_price(level: Decimal, side: Side, filters: Filters) -> Decimal:
    """A protective level on tick, toward the market: a rounded stop risks less than the wanted one, never more."""
    return ceil_to(level, filters.tick) if side is Side.LONG else floor_to(level, filters.tick)


def profit_price(level: Decimal, side: Side, filters: Filters) -> Decimal:
    """A take-profit on tick, toward the market: it fills no later than the wanted one."""
    return floor_to(level, filters.tick) if side is Side.LONG else ceil_to(level, filters.tick)


def from_text(value: float) -> Decimal:
    """A market float as the decimal that it prints as: 0.1 is 0.1, not 0.1000000000000000055."""
    return Decimal(repr(float(value)))
