"""Units: the types that carry a rule, so that nobody has to check it again.

Money is Decimal and travels as a plain decimal string; market data and features are floats. Times are integer milliseconds
since the epoch, UTC: `at` is venue time, but for topics that have only the wall's (`Topic.wall`).
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

DIGITS = 60


def decimal_text(value: Decimal) -> str:
    """Plain digits, never an exponent: `1E+2` breaks signatures and ClickHouse alike."""
    return format(value, "f")


def _plain(value: Decimal) -> Decimal:
    """Finite, and short when it is written out: `1E+999999` is a million digits, and no product of it can be had."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("must be finite")
    if exponent < -DIGITS or len(digits) + exponent > DIGITS:
        raise ValueError(f"must have at most {DIGITS} digits before and behind its point")
    return value


UtcMs = Annotated[int, Field(ge=0, description="milliseconds since the epoch, UTC")]
Money = Annotated[Decimal, AfterValidator(_plain), PlainSerializer(decimal_text, return_type=str)]
Price = Annotated[Money, Field(gt=0, description="positive and finite, quote currency")]
Quantity = Annotated[Money, Field(gt=0, description="positive, base units")]
Signed = Money
MarketPrice = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MarketQuantity = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Side(StrEnum):
    """Side of a position."""

    LONG = "LONG"
    SHORT = "SHORT"

    @property
    def sign(self) -> int:
        return 1 if self is Side.LONG else -1

    @property
    def opposite(self) -> Side:
        return Side.SHORT if self is Side.LONG else Side.LONG

    @property
    def opens_with(self) -> OrderSide:
        return OrderSide.BUY if self is Side.LONG else OrderSide.SELL

    @property
    def closes_with(self) -> OrderSide:
        return OrderSide.SELL if self is Side.LONG else OrderSide.BUY


class OrderSide(StrEnum):
    """Side of an order."""

    BUY = "BUY"
    SELL = "SELL"


class Source(StrEnum):
    """Where a market comes from: stands in every market event and in what is decided on it."""

    LIVE = "live"
    SYNTHETIC = "synthetic"
    TICKS = "ticks"
    CANDLES = "candles"
