"""Closing: take-profits are cancelled first (a full ladder makes the exchange refuse one more reduce-only order), the net rests
until the position is flat, and a close that ended without closing is sent again."""

from __future__ import annotations

import msgspec

from processors import order_ids
from processors.exits.calm import ALWAYS, Calm
from processors.exits.plan import Closing, Facts, Fired, Intent, Plan, cancel
from schemas import ids
from schemas.trading import ExitAction, LegKind

AGAIN_AFTER = 2
"""Marks that an ended close is given to show as FLAT before the next is sent."""
AGAIN_LATER = 30


def close(plan: Plan, facts: Facts) -> Fired | None:
    """A wish to close becomes cancels and one close at a time. The cancels do not wait for a close that is under way: where
    execution closes by itself, a full ladder would refuse it for ever."""
    reason = plan.wish
    if reason is None:
        return None
    detail = plan.why
    profits = tuple(leg for leg in plan.of(LegKind.TAKE_PROFIT) if leg.working)
    if _under_way(plan):
        if not profits:
            return None
        plan, cancels = cancel(plan, profits, reason, detail)
        return Fired(plan, "CANCEL_LADDER", reason.value, detail, cancels)
    plan, cancels = cancel(plan, profits, reason, detail)
    client_id = order_ids.close_id(plan.position_id, reason, plan.closes)
    intent = Intent(
        event_id=ids.event_id("trade.exit", plan.plan_id, ExitAction.CLOSE, client_id),
        action=ExitAction.CLOSE,
        reason=reason,
        detail=detail,
        client_id=client_id,
        quantity=min(plan.quantity, facts.filters.max_quantity),
    )
    plan = msgspec.structs.replace(plan, closing=Closing(intent.event_id, client_id), closes=plan.closes + 1)
    return Fired(plan, "CLOSE", intent.reason.value, detail, (*cancels, intent))


def calm(plan: Plan, facts: Facts) -> Calm | None:
    return ALWAYS if plan.wish is None else None


def _under_way(plan: Plan) -> bool:
    if plan.executor_closes >= 0 and plan.marks <= plan.executor_closes + AGAIN_AFTER and plan.closing is None:
        return True  # execution closes what it could not protect at the fill
    if plan.closing is None:
        return False
    if not plan.closing.state.terminal:
        return True
    wait = AGAIN_AFTER if plan.closes < order_ids.MAX_CLOSES else AGAIN_LATER
    return plan.marks < plan.closing.ended + wait
