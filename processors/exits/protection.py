"""The net: a closePosition stop rests as long as the position is open, or the position is closed."""

from __future__ import annotations

import msgspec

from processors.exits.calm import ALWAYS, Calm
from processors.exits.plan import Facts, Fired, Plan, place, wish
from schemas.trading import ExitReason, LegKind, LegState


def stop_passed(plan: Plan, facts: Facts) -> Fired | None:
    """The mark is beyond the net: at once when none rests there, after the grace when one does and has not fired."""
    if plan.wish is not None or not plan.beyond(plan.stop_price, facts.mark):
        return None
    net = plan.net
    if net is None and plan.marks < facts.grace:
        return None  # execution is still at it, and closes by itself what it cannot protect
    if net is not None and net.live and plan.past < facts.grace:
        return None
    state = "no net rests" if net is None or not net.live else f"the net has not fired for {plan.past} marks"
    return wish(plan, ExitReason.STOP_PASSED, f"mark {facts.mark:f} is beyond {plan.stop_price:f} and {state}")


def not_passed(plan: Plan, facts: Facts) -> Calm | None:
    return Calm(worst=plan.stop_price)


def net(plan: Plan, facts: Facts) -> Fired | None:
    """No net known after the grace, or it was lost: another one at the same level.

    A loss waits for one mark, because the net of a position that has just been closed expires too, and FLAT may be on its way.
    """
    if plan.wish is not None:
        return None
    old = plan.net
    if old is None:
        if plan.marks < facts.grace:
            return None
        detail, tries = f"no stop seen after {plan.marks} marks", 1
    elif old.live:
        return None
    elif old.passed:
        return wish(plan, ExitReason.STOP_PASSED, f"the net at {old.price:f} was refused: its level had been passed")
    elif plan.marks <= old.ended + (1 if old.state is LegState.DONE else 0):
        return None
    else:
        detail, tries = f"the net {old.client_id} is {old.state}", old.tries + 1
    plan, intent = place(plan, LegKind.NET, plan.stop_price, None, ExitReason.PROTECTION_LOST, detail, tries=tries)
    return Fired(msgspec.structs.replace(plan, why=detail), "PLACE_NET", ExitReason.PROTECTION_LOST.value, detail, (intent,))


def resting(plan: Plan, facts: Facts) -> Calm | None:
    return ALWAYS if plan.net is not None and plan.net.live else None
