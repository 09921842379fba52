"""Break-even: once the rung that the policy names has filled, the rest may not lose: the front stop goes to the entry, fees
included."""

from __future__ import annotations

import msgspec

from processors import filters as rounding
from processors.exits.front import raised, tightest
from processors.exits.plan import Facts, Fired, Plan
from schemas.trading import ExitReason, LegKind, LegState


def start(plan: Plan, facts: Facts) -> Fired | None:
    """A front stop that is tighter already stays."""
    after = facts.policy.exits.break_even_after_rung
    if plan.wish is not None or not after or (plan.break_even and plan.front is not None):
        return None
    done = [leg for leg in plan.of(LegKind.TAKE_PROFIT) if leg.state is LegState.DONE and leg.rung >= after]
    if not done and not plan.break_even:
        return None
    plan = msgspec.structs.replace(plan, break_even=True)
    sign = plan.side.sign
    price = rounding.stop_price(plan.entry_price * (1 + sign * facts.policy.exits.break_even_margin), plan.side, facts.filters)
    detail = f"take-profit {done[0].rung if done else after} filled: the rest may not lose"
    if (price - tightest(plan)) * sign > 0:
        plan = raised(plan, price, ExitReason.BREAK_EVEN, detail, facts)
    elif plan.front is None:
        return None  # the net itself is nearer
    return Fired(plan, "BREAK_EVEN", ExitReason.BREAK_EVEN.value, detail)
