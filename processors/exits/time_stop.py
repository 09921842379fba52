"""Time stop: a position that has had its time is closed. Time is the market's own, and passes by marks."""

from __future__ import annotations

from processors.exits.calm import ALWAYS, Calm
from processors.exits.plan import Facts, Fired, Plan, wish
from schemas.trading import ExitReason


def over(plan: Plan, facts: Facts) -> Fired | None:
    limit = plan.levels.time_stop_s if plan.levels else None
    if plan.wish is not None or limit is None or not plan.marks:
        return None
    held_s = (facts.at - plan.opened_at) / 1000
    return wish(plan, ExitReason.TIME_STOP, f"open for {held_s:.0f} s of {limit}") if held_s >= limit else None


def calm(plan: Plan, facts: Facts) -> Calm | None:
    limit = plan.levels.time_stop_s if plan.levels else None
    return ALWAYS if limit is None else Calm(until=plan.opened_at + limit * 1000)
