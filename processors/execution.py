"""The life of an order as a pure state machine: what is wished, what was sent, what the exchange said, what is to be done next.

    PLANNED -> SENDING -> ACKED -> FILLED | CANCELED | EXPIRED
                  |    -> REFUSED                                   the exchange refused for good
                  |    -> UNKNOWN -> ACKED                          a query found it
                  |               -> PLANNED, attempt + 1           proven absent; a new client id
    PLANNED -> ABANDONED                                            an entry past its time, or whose stop the mark has passed;
                                                                    a stop whose entry never filled
    ACKED -> EXPIRED                                                an entry that rested past its time: its rest is cancelled

`step` folds intents, fills, order updates, marks (venue time) and our own `trade.orders`; `work` derives from the state alone what
is to be done, so that after a restart the runner (streams/execution.py) just asks again. SENDING is in the log before the call:
whoever finds it without an answer asks the exchange, and never sends again before the exchange has denied the order.

Idempotent by client id: an intent seen twice does nothing. Finished intents are remembered in a bounded list; replays of the
inputs beyond it do not come, because the store skips offsets that it has applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import count
from typing import Any, NamedTuple

import msgspec

from processors import order_ids
from processors.intents import MAX_ATTEMPTS, ZERO, Intent, entry_intents, exit_intent, said
from processors.step import Context, Step
from schemas import hot, ids
from schemas.events import Event
from schemas.ids import Purpose
from schemas.trading import Entry, Exit, ExitReason, Fill, Order, OrderState, OrderType, OrderUpdate
from schemas.units import OrderSide

REMEMBERED = 256
"""Finished intents kept per instrument, newest last."""
WOULD_TRIGGER = -2021

_RANK = {
    OrderState.PLANNED: 0,
    OrderState.SENDING: 1,
    OrderState.UNKNOWN: 2,
    OrderState.ACKED: 3,
}
_TERMINAL_RANK = 9


class State(msgspec.Struct, frozen=True):
    """Of one instrument. `market_at`: venue time as the marks tell it; `mark`: the last price they told."""

    version: int = 1
    market_at: int = 0
    intents: dict[str, Intent] = {}
    finished: dict[str, OrderState] = {}
    mark: float | None = None


class Todo(StrEnum):
    SEND = "SEND"
    RESOLVE = "RESOLVE"
    ABANDON = "ABANDON"


class Work(NamedTuple):
    """What the runner is to do next for one intent. `why` explains an ABANDON."""

    todo: Todo
    intent: Intent
    why: str = ""


def step(state: State | None, event: Any, context: Context) -> Step[State]:
    """Folds one event. Emits what the exchange's word means for our orders (FILLED, CANCELED, EXPIRED, ACKED) and PLANNED."""
    state = state or State()
    match event:
        case hot.Marks():
            mark = next((one.mark for one in event.marks if one.instrument == context.key), state.mark)
            return _time_passes(msgspec.structs.replace(state, market_at=max(state.market_at, event.at), mark=mark))
        case Entry():
            return _planned(state, entry_intents(event, context.trace_id), event.at)
        case Exit():
            intent = exit_intent(event, context.trace_id)
            return _told_again(state, intent, event.at) or _planned(state, [intent], event.at)
        case Order():
            return Step(fold(state, event))
        case Fill():
            return _filled(state, event)
        case OrderUpdate():
            return _updated(state, event)
    raise TypeError(f"execution does not take {type(event).__name__}")


class _Street:
    """All intents of a state, looked at once: what each of them has to ask about the others."""

    def __init__(self, state: State) -> None:
        intents = state.intents.values()
        self.state = state
        self.by_client_id = {intent.client_id: intent for intent in intents}
        self.cancelled = {intent.cancels for intent in intents}
        self.unclear = [intent.first_id for intent in intents if intent.entry and intent.state in _UNCLEAR]
        on_the_way = [intent for intent in intents if intent.state in _ON_THE_WAY and intent.after is None]
        self.stops = [each.first_id for each in on_the_way if each.cancels is None and each.purpose is Purpose.STOP]
        self.leaving = [each.first_id for each in on_the_way if each.cancels and ids.purpose_of(each.cancels) not in _STOPS]

    def find(self, client_id: str) -> Intent | None:
        """By the first id, or that of the attempt that is under way."""
        return self.state.intents.get(client_id) or self.by_client_id.get(client_id)


def work(state: State) -> list[Work]:
    """Everything that is due now, oldest intent first. Entries and exits never wait for each other."""
    street = _Street(state)
    return [found for intent in state.intents.values() if (found := _due(street, intent)) is not None]


def _due(street: _Street, intent: Intent) -> Work | None:
    state = street.state
    if intent.state in _UNCLEAR:
        return Work(Todo.RESOLVE, intent)
    if intent.state is not OrderState.PLANNED:
        return None
    if intent.entry:
        if why := over(intent, state.market_at):
            return Work(Todo.ABANDON, intent, why)
        return None if _another(street.unclear, intent) else Work(Todo.SEND, intent)
    if intent.after is not None:
        entry = street.find(intent.after)
        if entry is not None and entry.filled == ZERO:
            return None
        if entry is None and state.finished.get(intent.after) is not OrderState.FILLED:
            return Work(Todo.ABANDON, intent, "its entry did not fill")
    if intent.cancels is None and intent.client_id in street.cancelled:
        return Work(Todo.ABANDON, intent, "cancelled before it was sent")
    if _waits_for_another(street, intent):
        return None
    return Work(Todo.SEND, intent)


def _another(first_ids: Sequence[str], intent: Intent) -> bool:
    return any(first_id != intent.first_id for first_id in first_ids)


def _waits_for_another(street: _Street, intent: Intent) -> bool:
    """Take-profits are cancelled before a close, which no stop holds up; a tighter stop rests before its predecessor is cancelled.

    A cancel never overtakes its order: the exchange would deny the one and then take the other.
    """
    if intent.cancels is not None:
        target = street.find(intent.cancels)
        if target is not None and target.state in (*_ON_THE_WAY, OrderState.UNKNOWN):
            return True
        return ids.purpose_of(intent.cancels) in _STOPS and _another(street.stops, intent)
    return intent.purpose is Purpose.CLOSE and _another(street.leaving, intent)


_STOPS = (Purpose.STOP, Purpose.GUARDIAN)
_UNCLEAR = (OrderState.SENDING, OrderState.UNKNOWN)
_ON_THE_WAY = (OrderState.PLANNED, OrderState.SENDING)


def over(intent: Intent, market_at: int) -> str:
    """How long an entry's time has been over, in words; empty while it is not."""
    if intent.not_after is None or market_at <= intent.not_after:
        return ""
    return f"{(market_at - intent.not_after) / 1000:.0f} s of venue time past its end"


def stopped(entry: Intent, state: State) -> str:
    """That the mark is past the entry's own stop, in words; empty while it is not: it would be closed as soon as it opens.

    For whoever has a mark of now: time that is over stays over, a price of before an outage may have come back.
    """
    net = next((one for one in state.intents.values() if one.after == entry.first_id and one.cancels is None), None)
    if net is None or net.trigger_price is None or state.mark is None:
        return ""
    passed = state.mark <= net.trigger_price if net.side is OrderSide.SELL else state.mark >= net.trigger_price
    return f"the mark, {state.mark:g}, is past its stop at {net.trigger_price:f}" if passed else ""


def _told_again(state: State, intent: Intent, at: int) -> Step[State] | None:
    """Who wishes a second time has lost what came of the first, and waits for it: it is said once more, as the event that it was.
    None for what is new."""
    reason = "wished before"
    if (known := state.intents.get(intent.first_id)) is not None:
        return Step(state, [said(known, known.state, at, reason=reason)])
    if (ended := state.finished.get(intent.first_id)) is None:
        return None
    filled = (intent.quantity or ZERO) if ended is OrderState.FILLED else ZERO
    return Step(state, [said(intent, ended, at, reason=reason, filled=filled)])


def _planned(state: State, wanted: Iterable[Intent], at: int, reason: str = "") -> Step[State]:
    """Adds what is new. An intent that is known, or was finished, changes nothing."""
    events = []
    intents = dict(state.intents)
    for intent in wanted:
        if intent.first_id in intents or intent.first_id in state.finished:
            continue
        intents[intent.first_id] = intent
        events.append(said(intent, OrderState.PLANNED, at, reason=reason))
    return Step(msgspec.structs.replace(state, intents=intents), events)


# -- folding


def fold(state: State, order: Order) -> State:
    """One step of an order's life, by whoever said it. Never backwards; a new attempt begins anew.

    What the exchange has been seen to hold is not planned again: its own word may be read before ours.
    """
    intent = _by_client_id(state, order.client_id)
    if intent is None or order.attempt < intent.attempt:
        return state
    if order.attempt > intent.attempt and _rank(intent.state) >= _RANK[OrderState.ACKED]:
        return state
    if intent.state is OrderState.ACKED and order.state is OrderState.REFUSED:
        return state  # what the exchange has taken was not refused: a worker that was frozen speaks of its own late call
    if order.attempt == intent.attempt and _rank(order.state) <= _rank(intent.state) and order.filled_quantity <= intent.filled:
        return state
    moved = msgspec.structs.replace(
        intent,
        client_id=order.client_id,
        attempt=order.attempt,
        state=order.state if order.attempt > intent.attempt or _rank(order.state) > _rank(intent.state) else intent.state,
        sent_at=order.sent_at if order.sent_at is not None else intent.sent_at,
        exchange_id=order.exchange_id or intent.exchange_id,
        filled=max(intent.filled, order.filled_quantity),
    )
    entry = _by_client_id(state, moved.after or "")
    state = _put(state, moved)
    if order.state is OrderState.REFUSED and order.error_code == WOULD_TRIGGER and entry is not None:
        state = _close_at_once(state, moved, entry)
    return state


def _close_at_once(state: State, net: Intent, entry: Intent) -> State:
    """The entry's stop has been passed before it could rest: what was filled is closed at market.

    The close's id hangs on the entry's client id, which the fold of fills knows too, so that the reason can be read from it.
    """
    filled = entry.filled
    names = (order_ids.close_id(entry.client_id, ExitReason.STOP_PASSED, n) for n in range(order_ids.MAX_CLOSES))
    close_id = next((name for name in names if name not in state.intents and name not in state.finished), None)
    if close_id is None or not filled:
        return state
    close = msgspec.structs.replace(
        _fresh(net, close_id),
        purpose=Purpose.CLOSE,
        order_type=OrderType.MARKET,
        book="ORDER",
        quantity=filled,
        trigger_price=None,
        close_position=False,
        after=None,
    )
    return _put(state, close)


def _filled(state: State, fill: Fill) -> Step[State]:
    intent = _heard(state, fill.client_id)
    if intent is None or fill.trade_id in intent.seen:
        return Step(state)
    summed = intent.summed + fill.quantity
    filled = max(intent.filled, summed)
    moved = msgspec.structs.replace(intent, filled=filled, summed=summed, seen=(*intent.seen[-63:], fill.trade_id))
    whole = intent.quantity is not None and filled >= intent.quantity
    renewed = _net_anew(_put(state, moved), moved, fill)
    state, events = renewed.state or state, list(renewed.events)
    if not whole:
        return Step(state, events)
    event = said(moved, OrderState.FILLED, fill.at, exchange_id=fill.order_id)
    return Step(fold(state, event), (event, *events))


def _net_anew(state: State, entry: Intent, fill: Fill) -> Step[State]:
    """A fill of an entry whose net has gone, by its trigger or otherwise: what came in late gets a net of its own."""
    nets = [net for net in state.intents.values() if net.after == entry.first_id and net.cancels is None]
    if not entry.entry or not nets or any(not net.state.terminal for net in nets):
        return Step(state)
    name = ids.client_id(Purpose.STOP, "late fill", entry.first_id, fill.trade_id)
    return _planned(state, [_fresh(nets[-1], name)], fill.at)


def _time_passes(state: State) -> Step[State]:
    """An entry that rests past its time has what is left of it cancelled; what was filled stays, with its net."""
    events: list[Event] = []
    for entry in list(state.intents.values()):
        if (
            entry.entry
            and entry.order_type is OrderType.LIMIT
            and entry.state is OrderState.ACKED
            and (late := over(entry, state.market_at))
        ):
            canceled = _rest_canceled(state, entry, state.market_at, late)
            state = canceled.state or state
            events += canceled.events
    return Step(state, events)


def _rest_canceled(state: State, entry: Intent | None, at: int, reason: str) -> Step[State]:
    """What an entry has not filled yet shall not be filled any more. A cancel that was refused to its end is wished anew."""
    if entry is None or entry.state.terminal:
        return Step(state)
    names = (order_ids.cancel_id(f"rest of {entry.client_id}" + (f", {n}" if n else "")) for n in count())
    name = next(name for name in names if state.finished.get(name) is not OrderState.REFUSED)
    cancel = msgspec.structs.replace(_fresh(entry, name), entry=False, cancels=entry.client_id, reduce_only=True, not_after=None)
    return _planned(state, [cancel], at, reason)


def _fresh(intent: Intent, name: str) -> Intent:
    """The same wish under another id, from the beginning."""
    begin: dict[str, Any] = {"state": OrderState.PLANNED, "attempt": 1, "sent_at": None, "exchange_id": None}
    return msgspec.structs.replace(intent, first_id=name, client_id=name, filled=ZERO, summed=ZERO, seen=(), **begin)


_OUTCOME = {
    "NEW": OrderState.ACKED,
    "PARTIALLY_FILLED": OrderState.ACKED,
    "TRIGGERING": OrderState.ACKED,
    "TRIGGERED": OrderState.ACKED,
    "FINISHED": OrderState.FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,
    "REJECTED": OrderState.EXPIRED,
}
"""A conditional order that the exchange rejects at its trigger has rested until then: EXPIRED. REFUSED never rested."""
_TRIGGERED = ("TRIGGERING", "TRIGGERED", "FINISHED")


def outcome_of(status: str) -> OrderState | None:
    """The exchange's status in our words; None for one that we do not know, which says nothing."""
    return _OUTCOME.get(status)


def _updated(state: State, update: OrderUpdate) -> Step[State]:
    """An order that fills in the ordinary book is FILLED by its fills, so that the quantity is there first."""
    intent = _heard(state, update.client_id)
    reached = outcome_of(update.status)
    if intent is None or reached is None:
        return Step(state)
    if update.book == "ORDER" and intent.book == "ALGO" and reached is not OrderState.FILLED:
        return Step(state)  # the triggered order's own steps; the conditional one tells how it ends
    events: tuple[Event, ...] = ()
    if update.book == "ALGO" and update.status in _TRIGGERED:
        canceled = _rest_canceled(state, state.intents.get(intent.after or ""), update.at, "its net was triggered")
        state, events = canceled.state or state, tuple(canceled.events)
    if _rank(reached) <= _rank(intent.state):
        return Step(state, events)
    state = _put(state, intent)
    reason = update.detail
    if intent.entry and reached is OrderState.CANCELED and (late := over(intent, state.market_at)):
        reached, reason = OrderState.EXPIRED, late
    event = said(intent, reached, update.at, exchange_id=update.exchange_id, reason=reason, filled=update.filled_quantity)
    return Step(fold(state, event), (event, *events))


def _by_client_id(state: State, client_id: str) -> Intent | None:
    """Also by an attempt that the state has not heard of: the exchange's word may be read before our own."""
    found = state.intents.get(client_id)
    if found is not None or not client_id or client_id in state.finished:
        return found
    intents = state.intents.values()
    found = next((intent for intent in intents if intent.client_id == client_id), None)
    return found or next((intent for intent in intents if _attempt_of(intent, client_id)), None)


def _attempt_of(intent: Intent, client_id: str) -> int:
    """Which attempt of this intent has that client id; 0 for none."""
    if client_id == intent.client_id:
        return intent.attempt
    if client_id[:2] != intent.first_id[:2]:
        return 0
    return next((n for n in range(1, MAX_ATTEMPTS + 1) if order_ids.attempt_id(intent.first_id, n) == client_id), 0)


def _heard(state: State, client_id: str) -> Intent | None:
    """The intent that the exchange speaks of. A word on a later attempt proves that it was sent."""
    intent = _by_client_id(state, client_id)
    if intent is None or (attempt := _attempt_of(intent, client_id)) <= intent.attempt:
        return intent
    return msgspec.structs.replace(intent, client_id=client_id, attempt=attempt, state=OrderState.SENDING)


def _rank(state: OrderState) -> int:
    return _RANK.get(state, _TERMINAL_RANK)


def _put(state: State, intent: Intent) -> State:
    """Stores an intent; a finished one is remembered by its outcome. A filled entry stays until its stop rests, a net that has
    gone until its entry has: the rest may still fill."""
    intents = {**state.intents, intent.first_id: intent}
    ended = [held for held in intents.values() if held.state.terminal]
    if not ended:
        return msgspec.structs.replace(state, intents=intents)
    finished = dict(state.finished)
    waited_for = [o.after for o in intents.values() if o.after is not None and o.state in (*_ON_THE_WAY, OrderState.UNKNOWN)]
    for held in ended:
        key, entry = held.first_id, intents.get(held.after or "")
        needed = (key in waited_for and held.filled > ZERO) or (entry is not None and not entry.state.terminal)
        if not needed:
            del intents[key]
            finished.pop(key, None)
            finished[key] = OrderState.FILLED if held.filled > ZERO else held.state
    for key in list(finished)[: max(0, len(finished) - REMEMBERED)]:
        del finished[key]
    return msgspec.structs.replace(state, intents=intents, finished=finished)
