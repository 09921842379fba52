"""The join: positions, marks, orders, verdicts and commands of one instrument become plans, decisions and intents.

Every marks record gives each open position exactly one decision, HOLD included. Every other input that changes a plan gives one
too, and it names the newest mark applied before it: so a replay knows in which order the join read its topics.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec

from processors import filters as rounding
from processors.exits import fold
from processors.exits.plan import ZERO, Facts, Fired, Intent, Leg, Plan, cancel_intent
from processors.exits.rules import advance
from processors.exits.state import IDLE_MARKS, Left, State, entry_of, remember
from processors.filters import FilterBook, Filters
from processors.step import Context, Step
from schemas import hot, ids
from schemas.events import Event, InstrumentEvent
from schemas.ids import Purpose
from schemas.operations import Command, CommandKind
from schemas.risk import Outcome, Verdict
from schemas.trading import Exit, ExitDecision, ExitPlan, ExitReason, LegKind, Order, OrderState, Position, PositionStatus
from schemas.trading import Leg as PublishedLeg

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


def step(state: State | None, event: Event | hot.Marks, ctx: Context, filters: FilterBook) -> Step[State]:
    """Folds the input, asks the rules, says what became of it. State None: the instrument is forgotten."""
    if isinstance(event, hot.Marks):
        return _on_marks(state, event, ctx, filters) if state else Step(None)
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
            after = _on_verdict(before, event)
        case _:
            return Step(state)
    if after is before:
        return Step(state)
    return _settle(before, msgspec.structs.replace(after, at=max(before.at, event.at)), event, ctx, rules)


def _on_position(state: State, position: Position, ctx: Context, filters: Filters) -> State:
    plan = state.plan
    ours = plan is not None and plan.position_id == position.position_id
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
    return msgspec.structs.replace(state, plan=fold.opened(state, position, ctx.policy, filters), idle=0)


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
    if late and not left.net_known and not order.state.terminal:
        leg = Leg(LegKind.NET, order.intent_id, order.client_id, order.trigger_price or left.stop_price, None)
        return msgspec.structs.replace(left, legs=(*legs, leg), entry_intent=intent, net_known=True)
    return msgspec.structs.replace(left, legs=legs, entry_intent=intent)


def _on_verdict(state: State, verdict: Verdict) -> State:
    plan = state.plan
    if verdict.outcome is not Outcome.CLOSE or plan is None or plan.wish is not None:
        return state
    if plan.side is verdict.side or verdict.at < plan.opened_at:
        return state  # it spoke of a position before this one
    return msgspec.structs.replace(state, plan=_wishing(plan, ExitReason.OPPOSITE_DECISION, verdict.detail))


def _on_command(state: State, command: Command, ctx: Context, filters: FilterBook) -> Step[State]:
    """A person's time is the wall's, so the state's venue time stays."""
    plan, rules = state.plan, filters.get(state.instrument)
    if command.kind is not CommandKind.CLOSE or plan is None or plan.wish is not None or rules is None:
        return Step(state)
    detail = f"{command.actor}: {command.reason}"
    after = msgspec.structs.replace(state, plan=_wishing(plan, ExitReason.MANUAL, detail))
    return _settle(state, after, command, ctx, rules)


def _wishing(plan: Plan, reason: ExitReason, detail: str) -> Plan:
    return msgspec.structs.replace(plan, wish=reason, why=detail)


def _on_marks(state: State, marks: hot.Marks, ctx: Context, filters: FilterBook) -> Step[State]:
    mark = next((mark for mark in marks.marks if mark.instrument == state.instrument), None)
    rules = filters.get(state.instrument)
    if mark is None or rules is None or (ctx.partition == state.partition and ctx.offset <= state.offset):
        return Step(state)
    price = rounding.from_text(mark.mark)
    after = msgspec.structs.replace(
        state,
        at=max(state.at, marks.at),
        mark=price,
        partition=ctx.partition,
        offset=ctx.offset,
        plan=fold.marked(state.plan, price) if state.plan else None,
        left=tuple(msgspec.structs.replace(left, marks=left.marks + 1) for left in state.left),
        idle=0 if state.plan or state.left else state.idle + 1,
    )
    if after.idle > IDLE_MARKS:
        return Step(None)
    return _settle(state, after, marks, ctx, rules)


def _settle(before: State, after: State, event: Event | hot.Marks, ctx: Context, filters: Filters) -> Step[State]:
    """Asks the rules and says everything that must be said."""
    events: list[Event] = []
    old, plan = before.plan, after.plan
    if plan is not None:
        fresh = old is None or old.plan_id != plan.plan_id
        moved = plan != old
        facts = Facts(ctx.policy, filters, after.mark, math.ceil(ctx.policy.exits.grace_s))
        plan, fired = advance(plan, facts)
        changed = fresh or _published(old) != _published(plan)
        if changed and not fresh:
            plan = msgspec.structs.replace(plan, revision=plan.revision + 1)
        after = msgspec.structs.replace(after, plan=plan)
        if changed:
            events.append(_plan_event(after, plan, ctx))
        if moved or fired:  # a mark always moves the plan's count of them
            events.append(_decision(after, plan, fired, event, ctx, fresh))
        if plan.mode == "LIVE":
            events += [_exit(after, plan, intent, ctx) for hit in fired for intent in hit.intents]
    if old is not None and (plan is None or plan.plan_id != old.plan_id):
        events += _done(after, old, event, ctx)
    after, sweeping = _sweep(after, event, ctx)
    empty = after.plan is None and not after.seen and not after.left
    return Step(None if empty else after, [*events, *sweeping])


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
            events.append(_swept(state, left, intents, event, ctx))
            events += [_exit(state, left, intent, ctx) for intent in intents]
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


def _published(plan: Plan | None) -> object:
    """What a reader of the plan sees: a change of it is a revision."""
    if plan is None:
        return None
    legs = tuple((leg.client_id, leg.state, leg.price, leg.quantity) for leg in plan.legs)
    return (plan.quantity, plan.entry_price, plan.stop_price, plan.break_even, plan.wish, plan.closes, legs)


def _plan_event(state: State, plan: Plan, ctx: Context) -> ExitPlan:
    return ExitPlan(
        event_id=ids.event_id("trade.exit-plan", plan.plan_id, plan.revision),
        at=state.at,
        instrument=state.instrument,
        account=state.account,
        plan_id=plan.plan_id,
        revision=plan.revision,
        position_id=plan.position_id,
        side=plan.side,
        profile=plan.profile,
        mode=plan.mode,
        entry_price=plan.entry_price,
        quantity=plan.quantity,
        stop_distance=plan.stop_distance,
        stop_price=plan.stop_price,
        break_even=plan.break_even,
        legs=[_leg(leg) for leg in plan.legs],
        why=plan.why,
        closing=plan.wish is not None,
        marks_partition=state.partition,
        marks_offset=state.offset,
        policy_version=ctx.policy_version,
    )


def _leg(leg: Leg) -> PublishedLeg:
    return PublishedLeg(kind=leg.kind, client_id=leg.client_id, price=leg.price, quantity=leg.quantity, state=leg.state)


def _decision(state: State, plan: Plan, fired: list[Fired], event: Event | hot.Marks, ctx: Context, fresh: bool) -> ExitDecision:
    """The first rule that fired names the decision; the others stand in the detail."""
    if fired:
        word, reason = fired[0].decision, fired[0].reason
        detail = "; ".join(hit.detail for hit in fired)
    elif fresh:
        word, reason, detail = "PLAN", "POSITION", plan.why
    else:
        word, reason, detail = "HOLD", _word(event), ""
    intents = [intent.event_id for hit in fired for intent in hit.intents]
    return _decided(state, plan, word, reason, detail, intents, plan.mode, event, ctx)


def _done(state: State, plan: Plan, event: Event | hot.Marks, ctx: Context) -> list[Event]:
    """The last word on a plan: its position is flat."""
    ended = msgspec.structs.replace(plan, quantity=ZERO, revision=plan.revision + 1, why="flat")
    return [_plan_event(state, ended, ctx), _decided(state, ended, "DONE", "FLAT", "", [], ended.mode, event, ctx)]


def _swept(state: State, left: Left, intents: list[Intent], event: Event | hot.Marks, ctx: Context) -> ExitDecision:
    detail = f"{len(intents)} orders outlived the position"
    named = [intent.event_id for intent in intents]
    return _decided(state, left, "SWEEP", ExitReason.ORPHAN.value, detail, named, "LIVE", event, ctx)


def _decided(
    state: State,
    about: Plan | Left,
    word: str,
    reason: str,
    detail: str,
    intents: list[str],
    mode: Literal["LIVE", "SHADOW"],
    event: Event | hot.Marks,
    ctx: Context,
) -> ExitDecision:
    pnl = None
    if isinstance(about, Plan) and state.mark is not None:
        pnl = round(float((state.mark / about.entry_price - 1) * about.side.sign) * 100, 6)
    return ExitDecision(
        event_id=ids.event_id("trade.exit-decision", about.plan_id, word, event.event_id),
        at=state.at,
        instrument=state.instrument,
        account=state.account,
        position_id=about.position_id,
        plan_id=about.plan_id,
        plan_revision=about.revision,
        side=about.side,
        decision=word,
        reason=reason,
        detail=detail,
        mark=state.mark,
        pnl_pct=pnl,
        stop_price=about.stop_price,
        intents=intents,
        mode=mode,
        marks_partition=state.partition,
        marks_offset=state.offset,
        policy_version=ctx.policy_version,
    )


def _exit(state: State, about: Plan | Left, intent: Intent, ctx: Context) -> Exit:
    return Exit(
        event_id=intent.event_id,
        at=state.at,
        instrument=state.instrument,
        account=state.account,
        action=intent.action,
        reason=intent.reason,
        detail=intent.detail,
        position_id=about.position_id,
        plan_id=about.plan_id,
        plan_revision=about.revision,
        side=about.side,
        client_id=intent.client_id,
        quantity=intent.quantity,
        price=intent.price,
        trigger_price=intent.trigger_price,
        close_position=intent.close_position,
        book=intent.book,
        policy_version=ctx.policy_version,
    )


def _word(event: Event | hot.Marks) -> str:
    return event.type.rsplit(".", 1)[1].upper()
