"""Numbers as the exchange writes them: decimal strings with as many places as the tick or step has."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from infra.venue.local.account import Position
from infra.venue.local.market.base import Symbol

Json = dict[str, Any]


def text(value: Decimal) -> str:
    return f"{value:f}"


def price(symbol: Symbol, ticks: int) -> str:
    return f"{ticks * symbol.tick:f}" if ticks else "0"


def qty(symbol: Symbol, steps: int) -> str:
    return f"{steps * symbol.step:f}"


def average(symbol: Symbol, turnover: Decimal, filled: int) -> str:
    """Average price with one decimal more than the tick has, as the exchange prints it."""
    if not filled:
        return "0.00000"
    return f"{(turnover / (filled * symbol.step)).quantize(symbol.tick / 100):f}"


def entry(position: Position) -> str:
    return text(position.entry.quantize(Decimal("0.00000001"))) if position.steps else "0.0"


def break_even(position: Position) -> str:
    return text(position.break_even.quantize(Decimal("0.00000001"))) if position.steps else "0.0"
