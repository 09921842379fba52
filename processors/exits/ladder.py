"""The ladder: reduce-only LIMIT orders that together never sell more than the position has.

Quantities are floored to the step, dust goes to the last rung, and a rung below the smallest quantity joins the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

import msgspec

from processors import filters as rounding
from processors.exits.calm import ALWAYS, Calm
from processors.exits.plan import ZERO, Facts, Fired, Intent, Leg, Plan, cancel, place
from processors.filters import Filters
from schemas.trading import ExitReason, LegKind, LegState
from schemas.units import Side

MAX_TRIES = 3


class Wanted(Protocol):
    """A rung as it is wanted: the policy's, or a plan's target."""

    @property
    def distance(self) -> Decimal: ...
    @property
    def share(self) -> Decimal: ...


class Step(NamedTuple):
    """A rung as it is ordered; `rung` counts from 1 in the policy's ladder."""

    rung: int
    price: Decimal
    quantity: Decimal


def rungs(quantity: Decimal, entry_price: Decimal, side: Side, ladder: Sequence[Wanted], filters: Filters) -> tuple[Step, ...]:
    """Steps whose quantities sum to the ladder's share of the position, down to the step."""
    whole = rounding.floor_to(quantity * sum((rung.share for rung in ladder), ZERO), filters.step)
    steps: list[Step] = []
    used = carried = ZERO
    for number, rung in enumerate(ladder, 1):
        last = number == len(ladder)
        part = whole - used if last else rounding.floor_to(quantity * rung.share, filters.step) + carried
        if part < filters.min_quantity and not last:
            carried = part
            continue
        carried = ZERO
        used += part
        price = rounding.profit_price(entry_price * (1 + side.sign * rung.distance), side, filters)
        if part >= filters.min_quantity and part > 0:
            steps.append(Step(number, price, part))
        elif part > 0 and steps:
            steps[-1] = steps[-1]._replace(quantity=steps[-1].quantity + part)
    return tuple(steps)


def trim(plan: Plan, facts: Facts) -> Fired | None:
    """Something else reduced the position: the farthest rungs go, what is left of them comes back as one."""
    if plan.wish is not None:
        return None
    working = [leg for leg in plan.of(LegKind.TAKE_PROFIT) if leg.working]
    excess = sum((leg.remaining for leg in working), ZERO) - plan.quantity
    if excess <= 0:
        return None
    gone: list[Leg] = []
    while excess > 0:
        leg = working.pop()
        gone.append(leg)
        excess -= leg.remaining
    detail = f"{plan.quantity:f} is left, the ladder sold more"
    plan, cancels = cancel(plan, tuple(gone), ExitReason.TAKE_PROFIT, detail)
    intents: list[Intent] = list(cancels)
    rest = rounding.floor_to(-excess, facts.filters.step)
    if rest >= facts.filters.min_quantity:
        nearest = gone[-1]
        plan, intent = place(
            plan, LegKind.TAKE_PROFIT, nearest.price, rest, ExitReason.TAKE_PROFIT, detail, rung=nearest.rung, tries=nearest.tries
        )
        intents.append(intent)
    return Fired(msgspec.structs.replace(plan, why=detail), "TRIM_LADDER", ExitReason.TAKE_PROFIT.value, detail, tuple(intents))


def build(plan: Plan, facts: Facts) -> Fired | None:
    """What no rung covers gets its rungs once the entry has ended, or has not grown for the grace."""
    if plan.wish is not None or not plan.uncovered:
        return None
    if not plan.entry_ended and plan.marks < plan.settled + facts.grace:
        return None
    covered = sum((leg.remaining for leg in plan.of(LegKind.TAKE_PROFIT) if leg.working), ZERO)
    amount = min(plan.uncovered, plan.quantity - covered)
    plan = msgspec.structs.replace(plan, uncovered=ZERO)
    intents: list[Intent] = []
    wanted: Sequence[Wanted] = plan.levels.targets if plan.levels else facts.policy.exits.ladder
    for step in rungs(amount, plan.entry_price, plan.side, wanted, facts.filters):
        detail = f"rung {step.rung}: {step.quantity:f} at {step.price:f}"
        plan, intent = place(plan, LegKind.TAKE_PROFIT, step.price, step.quantity, ExitReason.TAKE_PROFIT, detail, rung=step.rung)
        intents.append(intent)
    detail = f"{len(intents)} rungs over {amount:f}" if intents else f"{amount:f} is too little for a rung"
    return Fired(msgspec.structs.replace(plan, why=detail), "PLACE_LADDER", ExitReason.TAKE_PROFIT.value, detail, tuple(intents))


def covered(plan: Plan, facts: Facts) -> Calm | None:
    return None if plan.uncovered else ALWAYS


def again(plan: Plan, facts: Facts) -> Fired | None:
    """A rung that the exchange refused or dropped is tried again a few times; the net protects meanwhile."""
    if plan.wish is not None:
        return None
    for leg in plan.of(LegKind.TAKE_PROFIT):
        if leg.state is not LegState.LOST or leg.tries >= MAX_TRIES or plan.marks <= leg.ended or leg.remaining <= 0:
            continue
        covered = sum((other.remaining for other in plan.of(LegKind.TAKE_PROFIT) if other.working), ZERO)
        amount = rounding.floor_to(min(leg.remaining, plan.quantity - covered), facts.filters.step)
        plan = with_done(plan, leg)
        if amount < facts.filters.min_quantity:
            continue
        detail = f"rung {leg.rung} was lost: {amount:f} at {leg.price:f} again"
        plan, intent = place(
            plan, LegKind.TAKE_PROFIT, leg.price, amount, ExitReason.TAKE_PROFIT, detail, rung=leg.rung, tries=leg.tries + 1
        )
        return Fired(msgspec.structs.replace(plan, why=detail), "PLACE_LADDER", ExitReason.TAKE_PROFIT.value, detail, (intent,))
    return None


def none_lost(plan: Plan, facts: Facts) -> Calm | None:
    lost = any(leg.state is LegState.LOST and leg.tries < MAX_TRIES for leg in plan.of(LegKind.TAKE_PROFIT))
    return None if lost else ALWAYS


def with_done(plan: Plan, leg: Leg) -> Plan:
    """A lost rung that has been answered is not answered again."""
    legs = tuple(msgspec.structs.replace(each, tries=MAX_TRIES) if each is leg else each for each in plan.legs)
    return msgspec.structs.replace(plan, legs=legs)
