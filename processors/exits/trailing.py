"""Trailing: the front stop follows the best mark at the plan's distance, once the first take-profit has filled, or at once
where the profile says so. It moves only for a real gain and not too often: each move costs an order, and closes need them
more."""

from __future__ import annotations

from decimal import Decimal

from processors import filters as rounding
from processors.exits.calm import ALWAYS, Calm
from processors.exits.front import raised, tightest
from processors.exits.plan import Facts, Fired, Plan
from schemas.trading import ExitReason, LegKind, LegState

LEAST_TICKS = 2


def trail(plan: Plan, facts: Facts) -> Fired | None:
    levels = plan.levels
    if plan.wish is not None or levels is None or plan.best is None:
        return None
    exits, sign = facts.policy.exits, plan.side.sign
    if plan.front is not None and facts.at < plan.moved_at + exits.tighten_every_s * 1000:
        return None
    if not levels.trail_at_once and not _profit_taken(plan):
        return None
    wanted, now = plan.best * (1 - sign * levels.trail), tightest(plan)
    least = least_gain(plan, facts)
    if (wanted - now) * sign + facts.filters.tick < least:
        return None
    level = rounding.stop_price(wanted, plan.side, facts.filters)
    gain = (level - now) * sign
    if gain <= 0 or gain < least:
        return None
    detail = f"{levels.trail:.3%} behind the best mark {plan.best:f}"
    return Fired(raised(plan, level, ExitReason.TRAILING, detail, facts), "TRAIL", ExitReason.TRAILING.value, detail)


def calm(plan: Plan, facts: Facts) -> Calm | None:
    """A tick before the best mark that brings the least gain, or until the last move is old enough."""
    levels = plan.levels
    if levels is None or not (levels.trail_at_once or _profit_taken(plan)):
        return ALWAYS
    sign = plan.side.sign
    gain = least_gain(plan, facts) - LEAST_TICKS * facts.filters.tick
    reach = (tightest(plan) + sign * gain) / (1 - sign * levels.trail)
    return Calm(reach=reach, not_before=0 if plan.front is None else plan.moved_at + facts.policy.exits.tighten_every_s * 1000)


def least_gain(plan: Plan, facts: Facts) -> Decimal:
    """In price: what a move must bring."""
    return max(LEAST_TICKS * facts.filters.tick, facts.policy.exits.tighten_min_r * plan.stop_distance * plan.entry_price)


def _profit_taken(plan: Plan) -> bool:
    return plan.break_even or any(leg.state is LegState.DONE for leg in plan.of(LegKind.TAKE_PROFIT))
