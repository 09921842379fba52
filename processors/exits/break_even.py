"""Break-even: once a rung has filled, a quantity stop at the entry (fees included) rests in front of the net.

The net does not move. The quantity stop is placed before its predecessor is cancelled: reduce-only stops of a quantity coexist,
two closePosition stops do not.
"""

from __future__ import annotations

import msgspec

from processors import filters as rounding
from processors.exits.plan import Facts, Fired, Plan, cancel, place, wish
from schemas.trading import ExitReason, LegKind, LegState


def start(plan: Plan, facts: Facts) -> Fired | None:
    """The rung that the policy names has filled: from now on the rest may not lose."""
    after = facts.policy.exits.break_even_after_rung
    if plan.wish is not None or plan.break_even or not after:
        return None
    done = [leg for leg in plan.of(LegKind.TAKE_PROFIT) if leg.state is LegState.DONE and leg.rung >= after]
    if not done:
        return None
    plan = msgspec.structs.replace(plan, break_even=True)
    return _stop(plan, facts, f"take-profit {done[0].rung} filled: the rest may not lose", 1)


def follow(plan: Plan, facts: Facts) -> Fired | None:
    """The quantity stop covers what is left, and comes back when it was lost."""
    if plan.wish is not None or not plan.break_even:
        return None
    stops = plan.of(LegKind.STOP)
    newest = stops[-1] if stops else None
    if newest is not None and newest.working:
        if newest.quantity == plan.quantity:
            return None
        return _stop(plan, facts, f"{plan.quantity:f} is left, the stop had {newest.quantity or 0:f}", 1)
    if newest is None:
        return None
    if newest.passed:
        return wish(plan, ExitReason.BREAK_EVEN, f"the stop at {newest.price:f} was refused: its level had been passed")
    if plan.marks <= newest.ended + (1 if newest.state is LegState.DONE else 0):
        return None
    return _stop(plan, facts, f"the stop {newest.client_id} is {newest.state}", newest.tries + 1)


def _stop(plan: Plan, facts: Facts, detail: str, tries: int) -> Fired:
    level = plan.entry_price * (1 + plan.side.sign * facts.policy.exits.break_even_margin)
    price = rounding.stop_price(level, plan.side, facts.filters)
    if plan.beyond(price, facts.mark):
        return wish(plan, ExitReason.BREAK_EVEN, f"{detail}, and mark {facts.mark:f} is beyond {price:f} already")
    old = tuple(leg for leg in plan.of(LegKind.STOP) if leg.working)
    plan, intent = place(plan, LegKind.STOP, price, plan.quantity, ExitReason.BREAK_EVEN, detail, tries=tries)
    plan, cancels = cancel(plan, old, ExitReason.BREAK_EVEN, f"replaced: {detail}")
    plan = msgspec.structs.replace(plan, why=detail)
    return Fired(plan, "BREAK_EVEN", ExitReason.BREAK_EVEN.value, detail, (intent, *cancels))
