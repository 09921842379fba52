"""The front stop: a reduce-only quantity stop at the tightest level that any rule wants, before the net, which does not move.

Rules only raise the level; here it is made to rest. The next one is placed before its predecessor is cancelled (reduce-only
stops of a quantity coexist, two closePosition stops do not), and the predecessor goes when the next one rests, or has been
refused twice: then the exchange may have no room for both, and the net rests meanwhile.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from processors.exits.calm import ALWAYS, Calm
from processors.exits.plan import Facts, Fired, Plan, cancel, place, wish
from schemas.trading import ExitReason, LegKind, LegState

MAKE_ROOM_AFTER = 2


def raised(plan: Plan, level: Decimal, reason: ExitReason, detail: str, facts: Facts) -> Plan:
    """The plan with its front stop wanted at `level`, which the caller knows to be tighter."""
    return msgspec.structs.replace(plan, front=level, front_reason=reason, moved_at=facts.at, why=detail)


def tightest(plan: Plan) -> Decimal:
    """The level at which the position is left now."""
    if plan.front is None or (plan.stop_price - plan.front) * plan.side.sign > 0:
        return plan.stop_price
    return plan.front


def follow(plan: Plan, facts: Facts) -> Fired | None:
    """The front stop rests at its level over what is left, and comes back when it was lost."""
    if plan.wish is not None or plan.front is None:
        return None
    stops = plan.of(LegKind.STOP)
    newest = stops[-1] if stops else None
    tries = 1
    if newest is not None and newest.working and newest.state is LegState.WANTED:
        return None  # one at a time: what it is answered with decides how it goes on
    if newest is None:
        detail = f"{plan.front_reason} at {plan.front:f}"
    elif newest.price != plan.front:
        detail = f"{plan.front_reason} from {newest.price:f} to {plan.front:f}"
    elif newest.working and newest.quantity == plan.quantity:
        return None
    elif newest.working:
        detail = f"{plan.quantity:f} is left, the stop had {newest.quantity or 0:f}"
    elif newest.passed:
        return wish(plan, plan.front_reason, f"the stop at {newest.price:f} was refused: its level had been passed")
    elif plan.marks <= newest.ended + (1 if newest.state is LegState.DONE else 0):
        return None
    else:
        detail, tries = f"the stop {newest.client_id} is {newest.state}", newest.tries + 1
    if plan.beyond(plan.front, facts.mark):
        if facts.mark_at < plan.moved_at:
            return None  # a take-profit fills by the last price: a mark from before it says nothing of the level that it raised
        return wish(plan, plan.front_reason, f"{detail}, and mark {facts.mark:f} is beyond {plan.front:f} already")
    reason = plan.front_reason
    plan, intent = place(plan, LegKind.STOP, plan.front, plan.quantity, reason, detail, tries=tries)
    return Fired(msgspec.structs.replace(plan, why=detail), "PLACE_STOP", reason.value, detail, (intent,))


def standing(plan: Plan, facts: Facts) -> Calm | None:
    """The newest works, or none is wanted; what a lost one is answered with depends on the count of marks."""
    stops = plan.of(LegKind.STOP)
    return ALWAYS if plan.front is None or (stops and stops[-1].working and stops[-1].price == plan.front) else None


def relieve(plan: Plan, facts: Facts) -> Fired | None:
    """Predecessors of a front stop that rests are cancelled."""
    if plan.wish is not None or plan.front is None:
        return None
    stops = plan.of(LegKind.STOP)
    old = tuple(leg for leg in stops[:-1] if leg.working)
    if not old:
        return None
    newest = stops[-1]
    if newest.state is not LegState.RESTING and (newest.live or newest.tries < MAKE_ROOM_AFTER):
        return None
    detail = f"{len(old)} replaced by {newest.client_id}" if newest.live else "no room for both"
    plan, cancels = cancel(plan, old, plan.front_reason, detail)
    return Fired(plan, "CANCEL_STOP", plan.front_reason.value, detail, cancels)
