"""How much: margin from equity and confidence, shrunk until the loss at the stop is bearable. Pure arithmetic on Decimals.

margin   = equity x margin_share x (1 + 2 (confidence - 0.70)), that factor within 0.5..1.5
           clamped to margin_min..margin_max and to 1..5 % of equity
           shrunk until margin x leverage x stop distance <= equity x max_loss_share
quantity = floor(margin x leverage / price, step)           USD-M quantities are in base units, there is no multiplier
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from processors import filters as rounding
from processors.filters import Filters
from schemas.policy import Risk

SHARE_MIN, SHARE_MAX = Decimal("0.01"), Decimal("0.05")
FACTOR_MIN, FACTOR_MAX = Decimal("0.5"), Decimal("1.5")
NEUTRAL_CONFIDENCE = Decimal("0.70")


class Size(NamedTuple):
    """`quantity` zero: too small to be traded, `why` says what stood in the way."""

    margin: Decimal
    notional: Decimal
    quantity: Decimal
    why: str


def margin_for(equity: Decimal, confidence: float, stop_distance: Decimal, leverage: int, risk: Risk) -> Decimal:
    """Margin in the quote asset; zero when no margin within the limits bears the loss at the stop."""
    factor = 1 + 2 * (rounding.from_text(confidence) - NEUTRAL_CONFIDENCE)
    wanted = equity * risk.margin_share * min(max(factor, FACTOR_MIN), FACTOR_MAX)
    low = max(risk.margin_min, equity * SHARE_MIN)
    high = min(risk.margin_max, equity * SHARE_MAX, equity * risk.max_loss_share / (stop_distance * leverage))
    if high < risk.margin_min:
        return Decimal(0)
    return min(max(wanted, low), high)


def size(
    equity: Decimal, confidence: float, price: Decimal, stop_distance: Decimal, leverage: int, risk: Risk, filters: Filters
) -> Size:
    """What to buy. The margin that is told is that of the quantity after rounding, never more than was allowed."""
    allowed = margin_for(equity, confidence, stop_distance, leverage, risk)
    quantity = rounding.quantity(allowed * leverage / price, filters)
    notional = quantity * price
    margin = notional / leverage
    if not allowed:
        return Size(margin, notional, quantity, f"no margin of at least {risk.margin_min:f} fits equity {equity:.2f}")
    if not quantity:
        return Size(margin, notional, quantity, f"{allowed:.2f} x {leverage} buys less than {filters.min_quantity:f}")
    if notional < filters.min_notional:
        return Size(margin, notional, Decimal(0), f"notional {notional:.2f} is below the market's {filters.min_notional:f}")
    return Size(margin, notional, quantity, f"{margin:.2f} x {leverage} at {price:f}")
