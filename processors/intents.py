"""Intents: the orders that we want to exist, made from entries and exits, and the words in which their life is told.

An `Entry` becomes two: the order that opens, and its stop, due at the first fill. An `Exit` becomes one; a cancel is an intent too.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors import order_ids
from schemas import ids
from schemas.ids import Purpose
from schemas.trading import Entry, Exit, ExitAction, ExitReason, Order, OrderState, OrderType
from schemas.units import OrderSide

ZERO = Decimal(0)
MAX_ATTEMPTS = 8
"""Of a risk-reducing intent; then it is refused and exits decides anew. An entry is tried again only when proven absent."""


class Intent(msgspec.Struct, frozen=True):
    """One order that we want to exist, or (`cancels`) not to exist any more. Keyed by `first_id`, the client id of attempt 1.

    `after`: client id of the entry whose first fill makes this stop due. `filled`: the most that anybody has told of it. `summed`:
    of fills that were read one by one, their trade ids in `seen`: a query may count a fill before it is read. `tightens`: it only
    betters a protection that rests, and waits when orders are scarce.
    """

    first_id: str
    client_id: str
    intent_id: str
    trace_id: str
    account: str
    instrument: str
    entry: bool
    purpose: Purpose
    side: OrderSide
    order_type: OrderType
    book: str
    quantity: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    close_position: bool = False
    reduce_only: bool = True
    cancels: str | None = None
    after: str | None = None
    not_after: int | None = None
    leverage: int | None = None
    decision_id: str | None = None
    position_id: str | None = None
    state: OrderState = OrderState.PLANNED
    attempt: int = 1
    sent_at: int | None = None
    exchange_id: str | None = None
    filled: Decimal = ZERO
    summed: Decimal = ZERO
    seen: tuple[int, ...] = ()
    tightens: bool = False


class Opening(NamedTuple):
    """What opens a position, seen from its intent: all that brakes may be asked about. No exit has one."""

    instrument: str
    client_id: str


def opening(intent: Intent) -> Opening | None:
    """None for whatever can only reduce."""
    return Opening(intent.instrument, intent.client_id) if intent.entry and intent.cancels is None else None


def entry_intents(entry: Entry, trace_id: str) -> list[Intent]:
    """The order that opens, and the stop that its first fill makes due."""
    opening = Intent(
        first_id=entry.client_id,
        client_id=entry.client_id,
        intent_id=entry.event_id,
        trace_id=trace_id,
        account=entry.account,
        instrument=entry.instrument,
        entry=True,
        purpose=Purpose.ENTRY,
        side=entry.side.opens_with,
        order_type=entry.order_type,
        book="ORDER",
        quantity=entry.quantity,
        price=entry.limit_price,
        reduce_only=False,
        not_after=entry.not_after,
        leverage=entry.leverage,
        decision_id=entry.decision_id,
    )
    return [opening, _net(entry, trace_id)]


def _net(entry: Entry, trace_id: str) -> Intent:
    return Intent(
        first_id=entry.stop_client_id,
        client_id=entry.stop_client_id,
        intent_id=entry.event_id,
        trace_id=trace_id,
        account=entry.account,
        instrument=entry.instrument,
        entry=False,
        purpose=Purpose.STOP,
        side=entry.side.closes_with,
        order_type=OrderType.STOP_MARKET,
        book="ALGO",
        trigger_price=entry.stop_price,
        close_position=True,
        after=entry.client_id,
        decision_id=entry.decision_id,
    )


TIGHTENING = (ExitReason.BREAK_EVEN, ExitReason.TRAILING)


def exit_intent(wish: Exit, trace_id: str) -> Intent:
    cancels = wish.client_id if wish.action is ExitAction.CANCEL else None
    own_id = order_ids.cancel_id(wish.event_id) if cancels else wish.client_id
    order_type = {
        ExitAction.PLACE_STOP: OrderType.STOP_MARKET,
        ExitAction.PLACE_TAKE_PROFIT: OrderType.LIMIT,
        ExitAction.CLOSE: OrderType.MARKET,
        ExitAction.CANCEL: OrderType.MARKET,
    }[wish.action]
    return Intent(
        first_id=own_id,
        client_id=own_id,
        intent_id=wish.event_id,
        trace_id=trace_id,
        account=wish.account,
        instrument=wish.instrument,
        entry=False,
        purpose=ids.purpose_of(wish.client_id),
        side=wish.side.closes_with,
        order_type=order_type,
        book="ALGO" if wish.action is ExitAction.PLACE_STOP else wish.book,
        quantity=wish.quantity,
        price=wish.price,
        trigger_price=wish.trigger_price,
        close_position=wish.close_position,
        cancels=cancels,
        position_id=wish.position_id,
        tightens=wish.action is ExitAction.PLACE_STOP and wish.reason in TIGHTENING,
    )


def said(
    intent: Intent,
    state: OrderState,
    at: int,
    *,
    attempt: int | None = None,
    sent_at: int | None = None,
    exchange_id: str | None = None,
    reason: str = "",
    code: int | None = None,
    filled: Decimal = ZERO,
) -> Order:
    """The event of one step of this intent's order. Its id is of the step, so that the same step said twice is one."""
    attempt = attempt or intent.attempt
    client_id = order_ids.attempt_id(intent.first_id, attempt)
    total = max(filled, intent.filled)
    return Order(
        event_id=ids.event_id("trade.order", client_id, state, attempt, total.normalize(), code),
        at=at,
        instrument=intent.instrument,
        account=intent.account,
        intent_id=intent.intent_id,
        client_id=client_id,
        purpose=intent.purpose,
        side=intent.side,
        order_type=intent.order_type,
        state=state,
        attempt=attempt,
        quantity=intent.quantity,
        price=intent.price,
        trigger_price=intent.trigger_price,
        close_position=intent.close_position,
        reduce_only=intent.reduce_only,
        cancels=intent.cancels,
        book="ALGO" if intent.book == "ALGO" else "ORDER",
        exchange_id=exchange_id or intent.exchange_id,
        sent_at=sent_at if sent_at is not None else intent.sent_at,
        filled_quantity=total,
        reason=reason,
        error_code=code,
        decision_id=intent.decision_id,
        position_id=intent.position_id,
    )


def again(intent: Intent, at: int, reason: str, code: int | None = None) -> Order:
    """The next attempt, under its own client id; or the end of them."""
    if intent.attempt >= MAX_ATTEMPTS:
        return said(intent, OrderState.REFUSED, at, reason=f"{MAX_ATTEMPTS} attempts: {reason}", code=code)
    return said(intent, OrderState.PLANNED, at, attempt=intent.attempt + 1, reason=reason, code=code)
