"""The shadow: the chosen plan beside the baseline that orders. The same rules decide; its orders are filled on paper,
pessimistically: of a mark's range the stop is met first, at its level or, where the whole range lies beyond, at the range's
nearer end.

It lives until its own exit, also when the live position has gone before: only so are both outcomes whole. An opposite decision or a
person closes both.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors import filters as rounding
from processors.exits import fold
from processors.exits.plan import ZERO, Facts, Fired, Leg, Plan, with_leg
from processors.exits.plan import net_level as net_price
from processors.exits.planner import Choice, Levels
from processors.exits.rules import advance
from processors.exits.state import Shadow
from processors.filters import Filters
from schemas import hot, ids
from schemas.trading import ExitAction, ExitReason, LegKind, LegState, Position

KEPT = 4
"""Of an instrument. The oldest makes way for a newer one: it is closed at the mark."""
SUPERSEDED = "SUPERSEDED"
ROUNDS = 8


class Range(NamedTuple):
    """What the mark did since the record before. `against`, `favour`: its extremes for the position's side."""

    mark: Decimal
    against: Decimal
    favour: Decimal


def ranged(mark: hot.Mark, plan: Plan) -> Range:
    high, low = rounding.from_text(mark.high), rounding.from_text(mark.low)
    now = rounding.from_text(mark.mark)
    return Range(now, low, high) if plan.side.sign > 0 else Range(now, high, low)


def begun(live: Plan, choice: Choice, levels: Levels, filters: Filters) -> Shadow:
    """Beside a live plan that has just been made: its net rests at once."""
    plan = msgspec.structs.replace(
        live,
        plan_id=ids.event_id("plan", live.plan_id, "shadow"),
        mode="SHADOW",
        profile=choice.profile.value,
        levels=levels,
        stop_distance=levels.stop,
        stop_price=net_price(live.entry_price, live.side, levels.stop, filters),
        why=levels.why,
        entry_ended=True,
        closes=0,
    )
    net = Leg(LegKind.NET, f"{plan.plan_id}-net", f"{plan.plan_id}-net", plan.stop_price, None, LegState.RESTING)
    return Shadow(msgspec.structs.replace(plan, legs=(net,)), entered=plan.quantity)


def grown(shadow: Shadow, position: Position) -> Shadow:
    """Fills of the entry are the shadow's too; what else changes the live position is its own affair."""
    more = position.quantity - shadow.entered
    if not shadow.real or more <= 0 or shadow.gained or shadow.plan.quantity != shadow.entered:
        return shadow
    plan = msgspec.structs.replace(
        shadow.plan,
        quantity=position.quantity,
        entry_price=position.entry_price,
        uncovered=shadow.plan.uncovered + more,
    )
    return msgspec.structs.replace(shadow, plan=plan, entered=position.quantity)


def marked(shadow: Shadow, seen: Range) -> Shadow:
    """A marks record: what rests is met, then the plan has seen one more mark."""
    for leg in _met(shadow.plan, seen):
        shadow = _filled(shadow, leg, _price(leg, seen, shadow.plan))
        if shadow.reason:
            return shadow
    return msgspec.structs.replace(shadow, plan=fold.marked(shadow.plan, seen.mark, seen.favour))


def decided(shadow: Shadow, facts: Facts) -> tuple[Shadow, list[Fired]]:
    """The rules' word, carried out on paper at once; a close is at the mark. Without a mark nothing can be filled."""
    told: list[Fired] = []
    for _ in range(ROUNDS):
        if shadow.reason:
            break
        plan, fired = advance(shadow.plan, facts)
        shadow = msgspec.structs.replace(shadow, plan=plan)
        if not fired:
            break
        told += fired
        shadow = _carried_out(shadow, fired, facts)
    return shadow, told


def ended(shadow: Shadow, mark: Decimal | None, reason: str) -> Shadow:
    """Out at the mark, whatever rests."""
    return _out(shadow, shadow.plan.quantity, mark if mark is not None else shadow.plan.entry_price, reason)


def result(shadow: Shadow) -> float:
    """Per cent of the entry value, before fees and slippage."""
    return round(float(shadow.gained / (shadow.entered * shadow.plan.entry_price)) * 100, 6)


def _carried_out(shadow: Shadow, fired: list[Fired], facts: Facts) -> Shadow:
    plan = shadow.plan
    for leg in plan.legs:
        if leg.canceling and leg.live:
            plan = with_leg(plan, msgspec.structs.replace(leg, state=LegState.CANCELED, ended=plan.marks))
        elif leg.state is LegState.WANTED:
            plan = with_leg(plan, msgspec.structs.replace(leg, state=LegState.RESTING))
    shadow = msgspec.structs.replace(shadow, plan=plan)
    closes = any(intent.action is ExitAction.CLOSE for hit in fired for intent in hit.intents)
    if closes and facts.mark is not None:
        return ended(shadow, facts.mark, (plan.wish or ExitReason.STOP).value)
    return shadow


def _met(plan: Plan, seen: Range) -> list[Leg]:
    """Legs that the range reaches, the stops before the take-profits, the nearest first."""
    sign = plan.side.sign
    live = [leg for leg in plan.legs if leg.working]
    stops = [leg for leg in live if leg.kind is not LegKind.TAKE_PROFIT and (seen.against - leg.price) * sign <= 0]
    profits = [leg for leg in live if leg.kind is LegKind.TAKE_PROFIT and (seen.favour - leg.price) * sign >= 0]
    return [*sorted(stops, key=lambda leg: -leg.price * sign), *sorted(profits, key=lambda leg: leg.price * sign)]


def _price(leg: Leg, seen: Range, plan: Plan) -> Decimal:
    if leg.kind is LegKind.TAKE_PROFIT:
        return leg.price
    nearest = min(leg.price * plan.side.sign, seen.favour * plan.side.sign)
    return nearest * plan.side.sign


def _filled(shadow: Shadow, leg: Leg, price: Decimal) -> Shadow:
    plan = shadow.plan
    amount = plan.quantity if leg.quantity is None else min(leg.remaining, plan.quantity)
    done = msgspec.structs.replace(leg, state=LegState.DONE, filled=leg.filled + amount, ended=plan.marks)
    shadow = msgspec.structs.replace(shadow, plan=with_leg(plan, done))
    match leg.kind:
        case LegKind.TAKE_PROFIT:
            reason = ExitReason.TAKE_PROFIT
        case LegKind.STOP:
            reason = plan.front_reason
        case LegKind.NET:
            reason = ExitReason.STOP
    return _out(shadow, amount, price, reason.value)


def _out(shadow: Shadow, amount: Decimal, price: Decimal, reason: str) -> Shadow:
    plan = shadow.plan
    left = plan.quantity - amount
    gained = shadow.gained + (price - plan.entry_price) * plan.side.sign * amount
    plan = msgspec.structs.replace(plan, quantity=left, uncovered=min(plan.uncovered, left))
    return msgspec.structs.replace(shadow, plan=plan, gained=gained, reason="" if left > ZERO else reason)
