"""The join: positions, marks, orders, verdicts and commands of one instrument become plans, decisions and intents.

Every marks record gives each open position exactly one decision, HOLD included. Every other input that changes a plan gives one
too, and it names the newest mark applied before it: so a replay knows in which order the join read its topics.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from processors import filters as rounding
from processors.exits import calm, fold, said, shadow
from processors.exits.calm import Rests
from processors.exits.plan import Facts, Leg, Plan, cancel_intent
from processors.exits.planner import Known, levels, shadowing
from processors.exits.rules import advance
from processors.exits.rules import rest as at_rest
from processors.exits.state import HINTS_KEPT, IDLE_MARKS, Hint, Left, Shadow, State, entry_of, remember
from processors.filters import FilterBook, Filters
from processors.step import Context, Step
from schemas import hot, ids
from schemas.events import Event, InstrumentEvent
from schemas.ids import Purpose
from schemas.operations import Command, CommandKind
from schemas.risk import Outcome, Reason, Verdict
from schemas.trading import ExitReason, LegKind, Order, OrderState, Position, PositionStatus
from schemas.units import Side

ALL = "*"
"""`{"instrument": "*"}` in a CLOSE command closes everything."""

NET_EXPIRES_MARKS = 2
"""The exchange ends the net of a flat position by itself; one that still rests after so many marks is cancelled."""
FORGET_AFTER_MARKS = 60


def keys(event: Any, known: Collection[str]) -> Sequence[str]:
    """Which instruments an input concerns: a marks record those of its instruments that exits knows."""
    if isinstance(event, hot.Marks):
        return [mark.instrument for mark in event.marks if mark.instrument in known]
    if isinstance(event, Command):
        name = _instrument(event)
        return sorted(known) if name == ALL else [name] if name in known else []
    assert isinstance(event, InstrumentEvent)
    return [event.instrument]


def step(
    state: State | None, event: Event | hot.Marks, ctx: Context, filters: FilterBook, rests: Rests | None = None
) -> Step[State]:
    """Folds the input, asks the rules, says what became of it. State None: the instrument is forgotten. `rests`: what a worker
    keeps so that the rules are not asked at marks that can change nothing; what comes of them is the same without it."""
    if isinstance(event, hot.Marks):
        return _on_marks(state, event, ctx, filters, rests) if state else Step(None)
    if isinstance(event, Command):
        return _on_command(state, event, ctx, filters) if state else Step(None)
    assert isinstance(event, InstrumentEvent)
    before = state or State(account=ctx.account, instrument=event.instrument, partition=ids.partition_of(event.instrument))
    rules = filters.get(event.instrument)
    if rules is None:  # an instrument that the exchange does not list can hold no position of ours
        return Step(state)
    match event:
        case Position():
            after = _on_position(before, event, ctx, rules)
        case Order():
            after = _on_order(before, event)
        case Verdict():
            after = _on_verdict(before, event, ctx, rules)
        case _:
            return Step(state)
    if after is before:
        return Step(state)
    return _settle(before, msgspec.structs.replace(after, at=max(before.at, event.at)), event, ctx, rules)


def _on_position(state: State, position: Position, ctx: Context, filters: Filters) -> State:
    plan = state.plan
    ours = plan is not None and plan.position_id == position.position_id
    shadows = tuple(_beside(each, position) for each in state.shadows)
    if shadows != state.shadows:
        state = msgspec.structs.replace(state, shadows=shadows)
    if position.status is PositionStatus.FLAT:
        if not ours or plan is None:
            return state
        return msgspec.structs.replace(state, plan=None, left=(*state.left, fold.leave(plan)))
    if plan is not None and ours:
        if position.revision <= plan.position_revision:
            return state
        return msgspec.structs.replace(state, plan=fold.revised(plan, position))
    left = state.left if plan is None else (*state.left, fold.leave(plan))
    state = msgspec.structs.replace(state, left=left)
    return _planned(msgspec.structs.replace(state, plan=fold.opened(state, position, ctx.policy, filters), idle=0), ctx, filters)


def _beside(each: Shadow, position: Position) -> Shadow:
    if each.plan.position_id != position.position_id:
        return each
    if position.status is PositionStatus.FLAT:
        return msgspec.structs.replace(each, real=False)
    return shadow.grown(each, position)


def _planned(state: State, ctx: Context, filters: Filters) -> State:
    """Where the policy wants a shadow, one begins, or begins anew, beside the plan that was made."""
    plan, exits = state.plan, ctx.policy.exits
    choice = shadowing(exits, state.instrument)
    if plan is None or plan.levels is None or choice is None:
        return state
    known = msgspec.structs.replace(plan.levels.known, stop_distance=None)
    twin = shadow.begun(plan, choice, levels(choice, known, exits), filters)
    others = tuple(each for each in state.shadows if each.plan.plan_id != twin.plan.plan_id)
    return msgspec.structs.replace(state, shadows=(*others, twin))


def _on_order(state: State, order: Order) -> State:
    after = state
    of_entry = order.cancels is None and (
        order.purpose is Purpose.ENTRY or (order.purpose is Purpose.STOP and order.close_position and _unknown(state, order))
    )
    if of_entry:
        after = remember(after, order)
        ended = order.purpose is Purpose.ENTRY and order.state.terminal and order.state is not OrderState.FILLED
        if (ended and not order.filled_quantity) or order.state is OrderState.ABANDONED:  # nothing came of it, and nothing will
            after = msgspec.structs.replace(after, seen=tuple(s for s in after.seen if s.intent_id != order.intent_id))
    if after.plan is not None:
        plan = fold.ordered(fold.joined(after, after.plan), order)
        after = msgspec.structs.replace(after, plan=plan) if plan != after.plan else after
    left = tuple(_left_after(after, each, order) for each in after.left)
    return msgspec.structs.replace(after, left=left) if left != after.left else after


def _unknown(state: State, order: Order) -> bool:
    """Not a net that a plan of ours asked for itself."""
    legs = [leg for plan in ([state.plan] if state.plan else []) for leg in plan.legs if leg.intent_id == order.intent_id]
    legs += [leg for left in state.left for leg in left.legs if leg.intent_id == order.intent_id]
    return not legs or (state.plan is not None and state.plan.entry_intent == order.intent_id)


def _left_after(state: State, left: Left, order: Order) -> Left:
    """Also a net that is heard of only after its position had gone."""
    entry = entry_of(state, left.entry_client_id)
    intent = left.entry_intent or (entry.intent_id if entry else None)
    legs = fold.legs_after(left.legs, order)
    late = order.purpose is Purpose.STOP and order.close_position and order.cancels is None and order.intent_id == intent
    known = any(leg.intent_id == order.intent_id and leg.live for leg in legs)
    if late and not known and not order.state.terminal:  # also the net of a fill that came after the first had gone
        leg = Leg(LegKind.NET, order.intent_id, order.client_id, order.trigger_price or left.stop_price, None)
        return msgspec.structs.replace(left, legs=(*legs, leg), entry_intent=intent, net_known=True)
    return msgspec.structs.replace(left, legs=legs, entry_intent=intent)


def _on_verdict(state: State, verdict: Verdict, ctx: Context, filters: Filters) -> State:
    if verdict.outcome is Outcome.APPROVED and verdict.entry_id is not None:
        return _on_approval(state, verdict, ctx, filters)
    if verdict.outcome is not Outcome.CLOSE:
        return state
    reason = ExitReason.EMERGENCY_STOP if verdict.reason is Reason.EMERGENCY_STOP else ExitReason.OPPOSITE_DECISION
    plan = state.plan
    if plan is not None and _against(plan, verdict):
        plan = _wishing(plan, reason, verdict.detail)
    shadows = tuple(
        msgspec.structs.replace(each, plan=_wishing(each.plan, reason, verdict.detail)) if _against(each.plan, verdict) else each
        for each in state.shadows
    )
    if plan is state.plan and shadows == state.shadows:
        return state
    return msgspec.structs.replace(state, plan=plan, shadows=shadows)


def _against(plan: Plan, verdict: Verdict) -> bool:
    """It speaks of this position, not of one before it."""
    return plan.wish is None and plan.side is not verdict.side and verdict.at >= plan.opened_at


def _on_approval(state: State, verdict: Verdict, ctx: Context, filters: Filters) -> State:
    """What was known at the decision, for the plan of the position that it becomes."""
    known = Known(verdict.atr, verdict.regime, verdict.confidence, verdict.leverage, verdict.stop_distance)
    hint = Hint(ids.client_id(Purpose.ENTRY, verdict.entry_id), known)
    state = msgspec.structs.replace(state, hints=(*state.hints, hint)[-HINTS_KEPT:])
    if state.plan is None or not hint.of(state.plan.entry_client_id):
        return state
    plan = fold.informed(state, state.plan, ctx.policy, filters)
    return state if plan is state.plan else _planned(msgspec.structs.replace(state, plan=plan), ctx, filters)


def _on_command(state: State, command: Command, ctx: Context, filters: FilterBook) -> Step[State]:
    """A person's time is the wall's, so the state's venue time stays."""
    plan, rules = state.plan, filters.get(state.instrument)
    if command.kind is not CommandKind.CLOSE or plan is None or plan.wish is not None or rules is None:
        return Step(state)
    detail = f"{command.actor}: {command.reason}"
    shadows = tuple(msgspec.structs.replace(each, plan=_wishing(each.plan, ExitReason.MANUAL, detail)) for each in state.shadows)
    after = msgspec.structs.replace(state, plan=_wishing(plan, ExitReason.MANUAL, detail), shadows=shadows)
    return _settle(state, after, command, ctx, rules)


def _wishing(plan: Plan, reason: ExitReason, detail: str) -> Plan:
    return msgspec.structs.replace(plan, wish=reason, why=detail)


def _on_marks(state: State, marks: hot.Marks, ctx: Context, filters: FilterBook, rests: Rests | None) -> Step[State]:
    mark = _by_instrument(marks).get(state.instrument)
    rules = filters.get(state.instrument)
    if mark is None or rules is None or (ctx.partition == state.partition and ctx.offset <= state.offset):
        return Step(state)
    rest = rests.get(state.instrument) if rests else None
    if rest is not None and rest.policy is ctx.policy and rest.filters is rules:
        still = calm.held(state, mark, marks.at, ctx.partition, ctx.offset, rest)
        if still is not None:
            return Step(still, [_hold(still, rest.plan, mark.mark)])
    price = rounding.from_text(mark.mark)
    after = msgspec.structs.replace(
        state,
        at=max(state.at, marks.at),
        mark=price,
        partition=ctx.partition,
        offset=ctx.offset,
        plan=fold.marked(state.plan, price, _favour(state.plan, mark)) if state.plan else None,
        left=tuple([msgspec.structs.replace(left, marks=left.marks + 1, legs=fold.released(left.legs)) for left in state.left]),
        shadows=tuple([shadow.marked(each, shadow.ranged(mark, each.plan)) for each in state.shadows]),
        idle=0 if state.plan or state.left or state.shadows else state.idle + 1,
    )
    if after.idle > IDLE_MARKS:
        return Step(None)
    found = _settle(state, after, marks, ctx, rules, mark.mark)
    if rests is not None:
        _remember(rests, state.instrument, found, ctx, rules)
    return found


def _remember(rests: Rests, instrument: str, found: Step[State], ctx: Context, filters: Filters) -> None:
    """A plan that has held alone: how far from its next decision it is."""
    state, rest = found.state, None
    if state is not None and state.plan is not None and len(found.events) == 1 and type(found.events[0]) is said.Hold:
        rest = at_rest(state.plan, _facts(state, ctx, filters))
    if rest is not None:
        rests[instrument] = rest
    else:
        rests.pop(instrument, None)


class _Table:
    """The last marks record by instrument: one record is asked for by each of its instruments in turn."""

    of: hot.Marks | None = None
    by_instrument: Mapping[str, hot.Mark] = {}


def _by_instrument(marks: hot.Marks) -> Mapping[str, hot.Mark]:
    if _Table.of is not marks:
        _Table.of, _Table.by_instrument = marks, {mark.instrument: mark for mark in marks.marks}
    return _Table.by_instrument


def _favour(plan: Plan, mark: hot.Mark) -> Decimal:
    return rounding.from_text(mark.high if plan.side is Side.LONG else mark.low)


def _settle(
    before: State, after: State, event: Event | hot.Marks, ctx: Context, filters: Filters, mark: float = 0.0
) -> Step[State]:
    """Asks the rules and says everything that must be said."""
    events: list[Event | said.Hold] = []
    old, plan = before.plan, after.plan
    facts = _facts(after, ctx, filters, event.at if isinstance(event, hot.Marks) else -1)
    if plan is not None:
        fresh = old is None or old.plan_id != plan.plan_id
        moved = plan is not old
        plan, fired = advance(plan, facts)
        if isinstance(event, hot.Marks) and not fired:  # the mark has moved its own counts, and nothing that is shown
            events.append(_hold(after, plan, mark))
        elif fired or (moved and plan != old):
            changed = fresh or said.published(old) != said.published(plan)
            if changed and not fresh:
                plan = msgspec.structs.replace(plan, revision=plan.revision + 1)
            after = msgspec.structs.replace(after, plan=plan)
            if changed:
                events.append(said.plan_event(after, plan, ctx))
            events.append(said.decision(after, plan, fired, event, ctx, fresh))
            if plan.mode == "LIVE":
                events += [said.exit_(after, plan, intent, ctx) for hit in fired for intent in hit.intents]
    if old is not None and (plan is None or plan.plan_id != old.plan_id):
        events += said.done(after, old, event, ctx)
    if before.shadows or after.shadows:
        after, told = _shadowed(before, after, event, ctx, facts, mark)
        events += told
    if not after.left:
        return Step(None if after.empty else after, events)
    after, sweeping = _sweep(after, event, ctx)
    return Step(None if after.empty else after, [*events, *sweeping])


def _facts(state: State, ctx: Context, filters: Filters, mark_at: int = -1) -> Facts:
    return Facts(ctx.policy, filters, state.mark, math.ceil(ctx.policy.exits.grace_s), state.at, mark_at)


def _hold(state: State, plan: Plan, mark: float) -> said.Hold:
    return said.Hold(state.instrument, plan.plan_id, plan.revision, plan.mode, mark, state.at, state.offset)


def _shadowed(
    before: State, after: State, event: Event | hot.Marks, ctx: Context, facts: Facts, mark: float
) -> tuple[State, list[Event | said.Hold]]:
    """Each shadow decides by the same rules, and says so; one that is out says what came of it, and goes."""
    events: list[Event | said.Hold] = []
    kept: list[Shadow] = []
    known = {each.plan.plan_id: each for each in before.shadows}
    crowd = len(after.shadows) - shadow.KEPT
    for place, each in enumerate(after.shadows):
        was = known.get(each.plan.plan_id)
        now, fired = shadow.decided(each, facts)
        if place < crowd and not now.reason:
            now = shadow.ended(now, after.mark, shadow.SUPERSEDED)
        if isinstance(event, hot.Marks) and not fired and not now.reason:
            events.append(_hold(after, now.plan, mark))
        elif was != each or fired:
            events.append(said.decision(after, now.plan, fired, event, ctx, was is None))
        if now.reason:
            events.append(said.shadow_done(after, now, shadow.result(now), event, ctx))
        else:
            kept.append(now)
    return msgspec.structs.replace(after, shadows=tuple(kept)), events


def _sweep(state: State, event: Event | hot.Marks, ctx: Context) -> tuple[State, list[Event]]:
    """Legs that outlived their position are cancelled; a plan that left nothing behind is forgotten."""
    events: list[Event] = []
    kept: list[Left] = []
    for left in state.left:
        due = [
            leg
            for leg in left.legs
            if leg.live and not leg.canceling and (leg.kind is not LegKind.NET or left.marks >= NET_EXPIRES_MARKS)
        ]
        if due and not left.shadow:
            intents = [cancel_intent(left.plan_id, leg, ExitReason.ORPHAN, "its position is gone") for leg in due]
            events.append(said.swept(state, left, intents, event, ctx))
            events += [said.exit_(state, left, intent, ctx) for intent in intents]
            legs = tuple(msgspec.structs.replace(leg, canceling=True) if leg in due else leg for leg in left.legs)
            left = msgspec.structs.replace(left, legs=legs)
        quiet = not any(leg.live for leg in left.legs) or left.shadow
        if left.marks < (NET_EXPIRES_MARKS + 1 if quiet else FORGET_AFTER_MARKS):
            kept.append(left)
    return msgspec.structs.replace(state, left=tuple(kept)) if tuple(kept) != state.left else state, events


def _instrument(command: Command) -> str:
    try:
        body = json.loads(command.body)
    except ValueError:
        return ""
    return str(body.get("instrument", "")) if isinstance(body, dict) else ""
