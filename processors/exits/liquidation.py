"""Liquidation: the stop is always nearer than it, with the buffer between. An entry that cannot have such a stop is not sent.

A position of its own margin is liquidated at entry x (1 -+ (1/leverage - maintenance margin rate)); a shared wallet pays longer, so
this is the near end. The guard is a rule for what could not be chosen: a position that others opened, a net that rests too far out.
"""

from __future__ import annotations

from decimal import Decimal

from processors import filters as rounding
from processors.exits.front import raised
from processors.exits.plan import Facts, Fired, Plan
from schemas.policy import Risk
from schemas.trading import ExitReason


def leverage_bound(stop_distance: Decimal, risk: Risk) -> int:
    """The highest leverage whose liquidation stays behind the stop; zero when there is none."""
    return int(1 / (stop_distance + risk.liquidation_buffer + risk.maintenance_margin_rate))


def room(leverage: int, risk: Risk) -> Decimal:
    """How far from the entry price, as a share of it, a stop may be. Not positive: nowhere."""
    return Decimal(1) / leverage - risk.maintenance_margin_rate - risk.liquidation_buffer


def guard(plan: Plan, facts: Facts) -> Fired | None:
    """The net rests beyond liquidation with its buffer, or wider than the plan allows: a nearer stop in front of it."""
    if plan.wish is not None:
        return None
    known = plan.levels.known.leverage if plan.levels else None
    distance = room(known or facts.policy.risk.leverage, facts.policy.risk)
    why = "liquidation and its buffer"
    if plan.levels is not None and plan.levels.widest is not None and plan.levels.widest < distance:
        distance, why = plan.levels.widest, "what the profile allows"
    if distance <= 0:
        distance = plan.stop_distance
    sign = plan.side.sign
    if (plan.entry_price - plan.stop_price) * sign <= distance * plan.entry_price:
        return None
    level = rounding.stop_price(plan.entry_price * (1 - sign * distance), plan.side, facts.filters)
    if (level - plan.stop_price) * sign <= facts.filters.tick or (plan.front is not None and (level - plan.front) * sign <= 0):
        return None
    detail = f"the net at {plan.stop_price:f} is beyond {why}: {level:f}"
    return Fired(raised(plan, level, ExitReason.LIQUIDATION_GUARD, detail, facts), "LIQUIDATION_GUARD", "LIQUIDATION_GUARD", detail)
