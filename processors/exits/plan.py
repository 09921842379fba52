"""What exits knows of a position and how it wants to leave it: plans, their legs, and the two moves that rules make with them.

A leg is one protective order of ours: the NET (the closePosition stop that execution places at the first fill), a tighter quantity
STOP in front of it, a TAKE_PROFIT rung. Rules change a plan only by `place` and `cancel`, each of which also says the intent.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from processors import filters as rounding
from processors.exits.planner import Levels
from processors.filters import Filters
from schemas import ids
from schemas.ids import Purpose
from schemas.policy import Policy
from schemas.trading import ExitAction, ExitReason, LegKind, LegState, OrderState
from schemas.units import Side

ZERO = Decimal(0)
ENDED_LEGS_KEPT = 12

Book = Literal["ORDER", "ALGO"]


class Leg(msgspec.Struct, frozen=True):
    """`canceling`: its cancel is asked for; it has ended when execution says so of the order itself, not of the cancel. `cancels`:
    how many cancels have failed for good; `refused`: the last did, and the next is not due yet.

    `ended`: the plan's count of marks when it ended. `passed`: refused, because its level had been passed.
    """

    kind: LegKind
    intent_id: str
    client_id: str
    price: Decimal
    quantity: Decimal | None
    state: LegState = LegState.WANTED
    rung: int = 0
    filled: Decimal = ZERO
    tries: int = 1
    canceling: bool = False
    ended: int = -1
    passed: bool = False
    cancels: int = 0
    refused: bool = False

    @property
    def live(self) -> bool:
        """Asked for and not known to have ended."""
        return self.state in (LegState.WANTED, LegState.RESTING)

    @property
    def working(self) -> bool:
        return self.live and not self.canceling

    @property
    def remaining(self) -> Decimal:
        return (self.quantity or ZERO) - self.filled

    @property
    def book(self) -> Book:
        return "ORDER" if self.kind is LegKind.TAKE_PROFIT else "ALGO"


class Closing(msgspec.Struct, frozen=True):
    """The close that is under way."""

    intent_id: str
    client_id: str
    state: OrderState = OrderState.PLANNED
    ended: int = -1


class Plan(msgspec.Struct, frozen=True):
    """How one position will be left.

    `stop_distance` is R as a share of the entry price, fixed at entry; `stop_price` the level of the net. `marks` counts marks
    records applied to the plan (one a wall second), `settled` the count when the position last grew, `past` for how many marks
    the price has been beyond the net, `executor_closes` the count when execution said that it closes by itself. `uncovered`:
    quantity that no rung covers yet. `wish`: the position shall be closed, for this reason. `front`: level of the quantity stop
    that shall rest before the net, by `front_reason`; `moved_at`: venue time when it last tightened. `best`: the mark's extreme
    in the position's favour since it was opened. `levels`: as planned; None in a plan that is older than they are.
    `cancel_again`: the count at which cancels that failed are asked for anew.
    """

    plan_id: str
    position_id: str
    side: Side
    entry_client_id: str
    opened_at: int
    position_revision: int
    entry_price: Decimal
    quantity: Decimal
    stop_distance: Decimal
    stop_price: Decimal
    profile: str
    mode: Literal["LIVE", "SHADOW"]
    revision: int = 1
    entry_intent: str | None = None
    entry_ended: bool = False
    uncovered: Decimal = ZERO
    legs: tuple[Leg, ...] = ()
    placed: int = 0
    break_even: bool = False
    wish: ExitReason | None = None
    why: str = ""
    closing: Closing | None = None
    closes: int = 0
    marks: int = 0
    settled: int = 0
    past: int = 0
    executor_closes: int = -1
    levels: Levels | None = None
    front: Decimal | None = None
    front_reason: ExitReason = ExitReason.BREAK_EVEN
    moved_at: int = -1
    best: Decimal | None = None
    cancel_again: int = -1

    def of(self, kind: LegKind) -> tuple[Leg, ...]:
        return tuple([leg for leg in self.legs if leg.kind is kind])  # a list first: this is asked for at every mark, many times

    @property
    def net(self) -> Leg | None:
        """The one that protects, else the newest that did. Two may live for a moment: execution's, and one that we asked for."""
        nets = self.of(LegKind.NET)
        return next((leg for leg in nets if leg.live), nets[-1] if nets else None)

    def beyond(self, level: Decimal, mark: Decimal | None) -> bool:
        """Whether the mark has reached a protective level."""
        return mark is not None and (mark - level) * self.side.sign <= 0


class Intent(NamedTuple):
    """What becomes an `Exit`; `event_id` is known before, so that the leg can be joined to its order."""

    event_id: str
    action: ExitAction
    reason: ExitReason
    detail: str
    client_id: str
    quantity: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    close_position: bool = False
    book: Book = "ORDER"


class Facts(NamedTuple):
    """What rules may look at beside the plan. `grace`: marks that others are given to do their part. `at`: venue time.

    `mark_at`: of the mark, where it has come just now; -1: it is from before what is decided on.
    """

    policy: Policy
    filters: Filters
    mark: Decimal | None
    grace: int
    at: int = 0
    mark_at: int = -1


class Fired(NamedTuple):
    """A rule that applied: the plan after it, one word for the decision, and why."""

    plan: Plan
    decision: str
    reason: str
    detail: str
    intents: tuple[Intent, ...] = ()


def place(
    plan: Plan,
    kind: LegKind,
    price: Decimal,
    quantity: Decimal | None,
    reason: ExitReason,
    detail: str,
    *,
    rung: int = 0,
    tries: int = 1,
) -> tuple[Plan, Intent]:
    """A new leg and the intent to place it. `quantity` None: the net, which closes whatever there is."""
    profit = kind is LegKind.TAKE_PROFIT
    client_id = ids.client_id(Purpose.TAKE_PROFIT if profit else Purpose.STOP, plan.plan_id, plan.placed)
    action = ExitAction.PLACE_TAKE_PROFIT if profit else ExitAction.PLACE_STOP
    intent = Intent(
        event_id=ids.event_id("trade.exit", plan.plan_id, action, client_id),
        action=action,
        reason=reason,
        detail=detail,
        client_id=client_id,
        quantity=quantity,
        price=price if profit else None,
        trigger_price=None if profit else price,
        close_position=quantity is None,
        book="ORDER" if profit else "ALGO",
    )
    leg = Leg(kind, intent.event_id, client_id, price, quantity, rung=rung, tries=tries)
    return msgspec.structs.replace(plan, legs=_kept((*plan.legs, leg)), placed=plan.placed + 1), intent


def cancel(plan: Plan, legs: tuple[Leg, ...], reason: ExitReason, detail: str) -> tuple[Plan, tuple[Intent, ...]]:
    """Asks once for the end of each."""
    intents = tuple(cancel_intent(plan.plan_id, leg, reason, detail) for leg in legs)
    for leg in legs:
        plan = with_leg(plan, msgspec.structs.replace(leg, canceling=True))
    return plan, intents


def cancel_intent(plan_id: str, leg: Leg, reason: ExitReason, detail: str) -> Intent:
    again = (leg.cancels,) if leg.cancels else ()
    event_id = ids.event_id("trade.exit", plan_id, ExitAction.CANCEL, leg.client_id, *again)
    return Intent(event_id, ExitAction.CANCEL, reason, detail, leg.client_id, book=leg.book)


def with_leg(plan: Plan, leg: Leg) -> Plan:
    """The plan with this leg in the place of what it was."""
    return msgspec.structs.replace(plan, legs=tuple(leg if old.intent_id == leg.intent_id else old for old in plan.legs))


def wish(plan: Plan, reason: ExitReason, detail: str) -> Fired:
    """The position shall be closed; the rule at the head of the table does it."""
    return Fired(msgspec.structs.replace(plan, wish=reason, why=detail), "CLOSE", reason.value, detail)


def net_level(entry_price: Decimal, side: Side, distance: Decimal, filters: Filters) -> Decimal:
    return rounding.stop_price(entry_price * (1 - side.sign * distance), side, filters)


def _kept(legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
    """All that live, and the newest that have ended."""
    ended = [leg.intent_id for leg in legs if not leg.live]
    old = ended[:-ENDED_LEGS_KEPT]
    return tuple(leg for leg in legs if leg.intent_id not in old)
