"""What exits says: plans with their revisions, decisions with their reasons, intents. Only words; what they say is decided
elsewhere."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from processors.exits.plan import ZERO, Fired, Intent, Leg, Plan
from processors.exits.state import Left, Shadow, State
from processors.step import Context
from schemas import hot, ids
from schemas.events import Event
from schemas.trading import Exit, ExitDecision, ExitPlan, ExitReason
from schemas.trading import Leg as PublishedLeg


class Hold(NamedTuple):
    """A plan that holds at a mark. All of one marks record go out together."""

    instrument: str
    plan_id: str
    plan_revision: int
    mode: Literal["LIVE", "SHADOW"]
    mark: float
    at: int
    marks_offset: int

    @property
    def decision(self) -> str:
        return "HOLD"


def gathered(event: Any, said: list[Any], ctx: Context) -> list[Any]:
    """What the plans of one record said, holds as one event."""
    holds = [word for word in said if type(word) is Hold]
    if not holds:
        return said
    together = hot.ExitHolds(
        event_id=ids.event_id("trade.exit-holds", event.event_id),
        type="trade.exit-holds",
        at=event.at,
        account=ctx.account,
        partition=ctx.partition,
        marks_offset=ctx.offset,
        policy_version=ctx.policy_version,
        instruments=[hold.instrument for hold in holds],
        plan_ids=[hold.plan_id for hold in holds],
        plan_revisions=[hold.plan_revision for hold in holds],
        modes=[hold.mode for hold in holds],
        marks=[hold.mark for hold in holds],
    )
    return [together, *(word for word in said if type(word) is not Hold)]


def published(plan: Plan | None) -> object:
    """What a reader of the plan sees: a change of it is a revision."""
    if plan is None:
        return None
    legs = tuple((leg.client_id, leg.state, leg.price, leg.quantity) for leg in plan.legs)
    return (
        plan.quantity,
        plan.entry_price,
        plan.stop_price,
        plan.front,
        plan.levels,
        plan.break_even,
        plan.wish,
        plan.closes,
        legs,
    )


def plan_event(state: State, plan: Plan, ctx: Context) -> ExitPlan:
    levels = plan.levels
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
        style=levels.style if levels else None,
        tp_sl_mode=levels.mode if levels else None,
        regime=levels.known.regime if levels else None,
        atr=levels.known.atr if levels else None,
        static=levels.static if levels else False,
        levels=levels.why if levels else "",
        front_price=plan.front,
    )


def _leg(leg: Leg) -> PublishedLeg:
    return PublishedLeg(kind=leg.kind, client_id=leg.client_id, price=leg.price, quantity=leg.quantity, state=leg.state)


def decision(state: State, plan: Plan, fired: list[Fired], event: Event | hot.Marks, ctx: Context, fresh: bool) -> ExitDecision:
    """The first rule that fired names the decision; the others stand in the detail."""
    if fired:
        word, reason = fired[0].decision, fired[0].reason
        detail = "; ".join(hit.detail for hit in fired)
    elif fresh:
        word, reason, detail = "PLAN", "POSITION", plan.why
    else:
        word, reason, detail = "HOLD", _word(event), ""
    intents = [intent.event_id for hit in fired for intent in hit.intents] if plan.mode == "LIVE" else []
    return _decided(state, plan, word, reason, detail, intents, plan.mode, event, ctx)


def done(state: State, plan: Plan, event: Event | hot.Marks, ctx: Context) -> list[Event]:
    """The last word on a plan: its position is flat."""
    ended = msgspec.structs.replace(plan, quantity=ZERO, revision=plan.revision + 1, why="flat")
    return [plan_event(state, ended, ctx), _decided(state, ended, "DONE", "FLAT", "", [], ended.mode, event, ctx)]


def shadow_done(state: State, shadow: Shadow, result_pct: float, event: Event | hot.Marks, ctx: Context) -> ExitDecision:
    """What came of a plan that was only recorded."""
    plan = shadow.plan
    detail = f"on paper: {result_pct:+.4f} % of the entry value, before costs"
    told = _decided(state, plan, "DONE", shadow.reason, detail, [], "SHADOW", event, ctx)
    return told.model_copy(
        update={
            "result_pct": result_pct,
            "result_r": round(result_pct / 100 / float(plan.stop_distance), 6),
            "held_s": (state.at - plan.opened_at) / 1000,
        }
    )


def swept(state: State, left: Left, intents: list[Intent], event: Event | hot.Marks, ctx: Context) -> ExitDecision:
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
    levels = about.levels if isinstance(about, Plan) else None
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
        profile=levels.profile if levels else None,
        style=levels.style if levels else None,
        tp_sl_mode=levels.mode if levels else None,
        regime=levels.known.regime if levels else None,
    )


def exit_(state: State, about: Plan | Left, intent: Intent, ctx: Context) -> Exit:
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
