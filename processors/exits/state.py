"""What exits keeps of an instrument: the plan of the open position, orders seen before it, and legs that outlived theirs."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from processors import order_ids
from processors.exits.plan import Leg, Plan
from processors.exits.planner import Known
from schemas.ids import Purpose
from schemas.trading import Order, OrderState
from schemas.units import Side

SEEN_KEPT = 8
HINTS_KEPT = 4
IDLE_MARKS = 120
"""Marks after which an instrument without position and without legs is forgotten."""


class Seen(msgspec.Struct, frozen=True):
    """An entry's order or its net, as execution told of them: orders and positions come on two topics, in any order."""

    intent_id: str
    client_id: str
    purpose: Purpose
    state: OrderState
    trigger_price: Decimal | None = None
    error_code: int | None = None


class Hint(msgspec.Struct, frozen=True):
    """What an approved decision knew, until its entry is a position. `client_id`: of the entry's first attempt."""

    client_id: str
    known: Known

    def of(self, entry_client_id: str) -> bool:
        """Whether that is this entry's order, at whatever attempt."""
        return any(order_ids.attempt_id(self.client_id, n) == entry_client_id for n in range(1, order_ids.MAX_ATTEMPTS + 1))


class Left(msgspec.Struct, frozen=True):
    """A position that is gone, while orders of its plan may still rest. `net_known`: its net stands among the legs."""

    plan_id: str
    revision: int
    position_id: str
    side: Side
    entry_client_id: str
    entry_intent: str | None
    stop_price: Decimal
    closes: int
    shadow: bool
    net_known: bool
    legs: tuple[Leg, ...]
    marks: int = 0


class Shadow(msgspec.Struct, frozen=True):
    """A plan that is only recorded, its orders filled on paper. `gained`: price x quantity won so far, `entered`: quantity entered.

    `reason`: what took the last of it; empty while it is open. `real`: its live twin is still open.
    """

    plan: Plan
    entered: Decimal
    gained: Decimal = Decimal(0)
    reason: str = ""
    real: bool = True


class State(msgspec.Struct, frozen=True):
    """`at` is the newest venue time seen; `mark` with its place is the newest mark applied (offset -1: none yet)."""

    version: int = 1
    account: str = ""
    instrument: str = ""
    at: int = 0
    mark: Decimal | None = None
    partition: int = 0
    offset: int = -1
    plan: Plan | None = None
    seen: tuple[Seen, ...] = ()
    left: tuple[Left, ...] = ()
    idle: int = 0
    hints: tuple[Hint, ...] = ()
    shadows: tuple[Shadow, ...] = ()

    @property
    def empty(self) -> bool:
        return self.plan is None and not (self.seen or self.left or self.hints or self.shadows)


def remember(state: State, order: Order) -> State:
    """Keeps the newest word on an entry's order or net."""
    seen = Seen(order.intent_id, order.client_id, order.purpose, order.state, order.trigger_price, order.error_code)
    others = tuple(s for s in state.seen if (s.intent_id, s.purpose) != (seen.intent_id, seen.purpose))
    return msgspec.structs.replace(state, seen=(*others, seen)[-SEEN_KEPT:])


def entry_of(state: State, client_id: str) -> Seen | None:
    """The order that opened a position, if execution has told of it."""
    return next((s for s in state.seen if s.purpose is Purpose.ENTRY and s.client_id == client_id), None)


def net_of(state: State, intent_id: str) -> Seen | None:
    """The net that belongs to an entry."""
    return next((s for s in state.seen if s.purpose is Purpose.STOP and s.intent_id == intent_id), None)
