"""How what happens changes what exits knows. No rule stands here: folding says what is, rules say what follows."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from processors import order_ids
from processors.exits import plan as planning
from processors.exits.plan import ZERO, Leg, Plan, with_leg
from processors.exits.planner import NOTHING, Levels, governing, levels
from processors.exits.state import Left, Seen, State, entry_of, net_of
from processors.filters import Filters
from schemas import ids
from schemas.ids import Purpose
from schemas.policy import Policy
from schemas.trading import LegKind, LegState, Order, OrderState, Position

WOULD_TRIGGER = -2021
CANCEL_AGAIN = 5
"""Marks that an exchange which has refused every attempt of a cancel is left alone."""

_LEG_STATES = {
    OrderState.PLANNED: LegState.WANTED,
    OrderState.SENDING: LegState.WANTED,
    OrderState.UNKNOWN: LegState.WANTED,
    OrderState.ACKED: LegState.RESTING,
    OrderState.FILLED: LegState.DONE,
    OrderState.CANCELED: LegState.LOST,
    OrderState.EXPIRED: LegState.LOST,
    OrderState.REFUSED: LegState.LOST,
    OrderState.ABANDONED: LegState.LOST,
}


def opened(state: State, position: Position, policy: Policy, filters: Filters) -> Plan:
    """A plan for a position seen for the first time. One that came back (a late fill undid its end) gets a plan of its own."""
    before = [left for left in state.left if left.position_id == position.position_id]
    suffix = () if position.revision == 1 else (position.revision,)
    levels = planned(state, position.entry_client_id, policy)
    plan = Plan(
        plan_id=ids.event_id("plan", position.position_id, *suffix) if suffix else order_ids.plan_id(position.position_id),
        position_id=position.position_id,
        side=position.side,
        entry_client_id=position.entry_client_id,
        opened_at=position.opened_at,
        position_revision=position.revision,
        entry_price=position.entry_price,
        quantity=position.quantity,
        stop_distance=levels.stop,
        stop_price=planning.net_level(position.entry_price, position.side, levels.stop, filters),
        profile=levels.profile.value,
        mode="LIVE",
        uncovered=position.quantity,
        closes=before[-1].closes if before else 0,
        why=levels.why,
        levels=levels,
        best=position.entry_price,
    )
    return joined(state, plan)


def planned(state: State, entry_client_id: str, policy: Policy) -> Levels:
    """By what was known at its decision; by nothing, where that is not heard of (another's position)."""
    known = next((hint.known for hint in reversed(state.hints) if hint.of(entry_client_id)), NOTHING)
    return levels(governing(policy.exits, state.instrument), known, policy.exits)


def informed(state: State, plan: Plan, policy: Policy, filters: Filters) -> Plan:
    """The decision's word was read after the position: the plan is made anew, unless it has begun to be carried out."""
    begun = plan.front is not None or plan.uncovered != plan.quantity or plan.of(LegKind.TAKE_PROFIT)
    if begun or plan.levels is None or plan.levels.known != NOTHING:
        return plan
    found = planned(state, plan.entry_client_id, policy)
    if found == plan.levels:
        return plan
    price = planning.net_level(plan.entry_price, plan.side, found.stop, filters) if plan.net is None else plan.stop_price
    profile = found.profile.value
    return msgspec.structs.replace(plan, levels=found, stop_distance=found.stop, stop_price=price, profile=profile, why=found.why)


def joined(state: State, plan: Plan) -> Plan:
    """Finds the entry's order and its net among the orders seen."""
    entry = entry_of(state, plan.entry_client_id)
    if entry is None:
        return plan
    plan = msgspec.structs.replace(plan, entry_intent=entry.intent_id, entry_ended=plan.entry_ended or entry.state.terminal)
    net = net_of(state, entry.intent_id)
    return plan if net is None else with_entry_net(plan, net)


def with_entry_net(plan: Plan, seen: Seen) -> Plan:
    """The net that execution placed: the plan takes its level as it rests."""
    leg = next((leg for leg in plan.legs if leg.kind is LegKind.NET and leg.intent_id == seen.intent_id), None)
    if leg is None:
        if _LEG_STATES[seen.state] not in (LegState.WANTED, LegState.RESTING) and plan.net is not None:
            return plan
        leg = Leg(LegKind.NET, seen.intent_id, seen.client_id, seen.trigger_price or plan.stop_price, None)
        # the newest net is the last one: execution's comes first in time, so it goes in front of one that we asked for
        plan = msgspec.structs.replace(plan, legs=(leg, *plan.legs))
    live = _LEG_STATES[seen.state] in (LegState.WANTED, LegState.RESTING)
    if live and not leg.live and seen.client_id != leg.client_id:  # of a fill that came after the first net had gone
        leg = Leg(LegKind.NET, seen.intent_id, seen.client_id, seen.trigger_price or plan.stop_price, None)
    was = leg
    leg = _after(leg, seen.client_id, seen.state, ZERO, seen.error_code, plan.marks)
    plan = with_leg(plan, leg)
    if leg.live and seen.trigger_price:
        plan = msgspec.structs.replace(plan, stop_price=seen.trigger_price)
    if leg.passed and not was.passed:
        plan = msgspec.structs.replace(plan, executor_closes=plan.marks)
    return plan


def revised(plan: Plan, position: Position) -> Plan:
    """A later revision: it grew by a fill of the entry, or shrank by whatever order filled last."""
    delta = position.quantity - plan.quantity
    if delta < 0:
        for leg in plan.legs:
            if leg.kind is not LegKind.NET and leg.live and leg.client_id == position.last_client_id:
                filled = leg.filled - delta
                done = leg.quantity is not None and filled >= leg.quantity
                state = LegState.DONE if done else LegState.RESTING
                ended = plan.marks if done else -1
                plan = with_leg(plan, msgspec.structs.replace(leg, filled=filled, state=state, ended=ended))
    return msgspec.structs.replace(
        plan,
        position_revision=position.revision,
        entry_price=position.entry_price,
        quantity=position.quantity,
        uncovered=min(plan.uncovered + max(delta, ZERO), position.quantity),
        settled=plan.marks if delta > 0 else plan.settled,
    )


def ordered(plan: Plan, order: Order) -> Plan:
    """Execution's word on an order: ours by the intent, also at its next attempt. A cancel's own life says nothing of the leg, but
    one that has failed for good is asked for again."""
    if order.cancels is not None:
        legs = uncanceled(plan.legs, order)
        return msgspec.structs.replace(plan, legs=legs, cancel_again=plan.marks + CANCEL_AGAIN) if legs != plan.legs else plan
    if plan.closing is not None and order.intent_id == plan.closing.intent_id:
        ended = plan.marks if order.state.terminal and plan.closing.ended < 0 else plan.closing.ended
        closing = msgspec.structs.replace(plan.closing, client_id=order.client_id, state=order.state, ended=ended)
        return msgspec.structs.replace(plan, closing=closing)
    if order.intent_id == plan.entry_intent and order.purpose is Purpose.CLOSE:
        return msgspec.structs.replace(plan, executor_closes=plan.marks)
    for leg in plan.legs:
        if leg.intent_id == order.intent_id and _of_leg(order):
            return with_leg(plan, _after(leg, order.client_id, order.state, order.filled_quantity, order.error_code, plan.marks))
    return plan


def uncanceled(legs: tuple[Leg, ...], order: Order) -> tuple[Leg, ...]:
    """A cancel has failed for good: its leg may rest on."""
    if order.state not in (OrderState.REFUSED, OrderState.ABANDONED):
        return legs
    return tuple(
        msgspec.structs.replace(leg, cancels=leg.cancels + 1, refused=True)
        if leg.live and leg.canceling and not leg.refused and leg.client_id == order.cancels
        else leg
        for leg in legs
    )


def released(legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
    """Cancels that failed may be asked for anew."""
    return tuple(msgspec.structs.replace(leg, canceling=False, refused=False) if leg.refused else leg for leg in legs)


def _of_leg(order: Order) -> bool:
    """An entry's order and its net share an intent, so the purpose tells them apart."""
    return order.cancels is None and order.purpose in (Purpose.STOP, Purpose.TAKE_PROFIT)


def legs_after(legs: tuple[Leg, ...], order: Order) -> tuple[Leg, ...]:
    """The same for legs that outlived their position."""
    if order.cancels is not None:
        return uncanceled(legs, order)
    if not _of_leg(order):
        return legs
    return tuple(
        _after(leg, order.client_id, order.state, order.filled_quantity, order.error_code, 0)
        if leg.intent_id == order.intent_id
        else leg
        for leg in legs
    )


def leave(plan: Plan) -> Left:
    """What remains of a plan when its position is flat: the legs that may still rest."""
    return Left(
        plan_id=plan.plan_id,
        revision=plan.revision,
        position_id=plan.position_id,
        side=plan.side,
        entry_client_id=plan.entry_client_id,
        entry_intent=plan.entry_intent,
        stop_price=plan.stop_price,
        closes=plan.closes,
        shadow=False,
        net_known=plan.net is not None,
        legs=tuple(leg for leg in plan.legs if leg.live),
    )


def marked(plan: Plan, mark: Decimal, extreme: Decimal) -> Plan:
    """One more marks record over the plan. `extreme`: of the mark since the record before, in the position's favour; that of the
    first record may be older than the position."""
    past = plan.past + 1 if plan.beyond(plan.stop_price, mark) else 0
    best = plan.best if plan.best is not None else mark
    reached = extreme if plan.marks else mark
    if (reached - best) * plan.side.sign > 0:
        best = reached
    if 0 <= plan.cancel_again <= plan.marks:
        plan = msgspec.structs.replace(plan, legs=released(plan.legs), cancel_again=-1)
    return msgspec.structs.replace(plan, marks=plan.marks + 1, past=past, best=best)


def _after(leg: Leg, client_id: str, state: OrderState, filled: Decimal, error: int | None, marks: int) -> Leg:
    """An order that has ended does not live again, whatever is read later."""
    if not leg.live:
        return leg
    new = _LEG_STATES[state]
    if leg.state is LegState.RESTING and new is LegState.WANTED:
        new = LegState.RESTING
    if new is LegState.LOST and leg.canceling:
        new = LegState.CANCELED
    ended = new not in (LegState.WANTED, LegState.RESTING)
    return msgspec.structs.replace(
        leg,
        client_id=client_id,
        state=new,
        filled=max(leg.filled, filled),
        ended=marks if ended else -1,
        passed=leg.passed or (state is OrderState.REFUSED and error == WOULD_TRIGGER),
    )
