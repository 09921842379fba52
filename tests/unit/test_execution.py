"""Histories of orders: what is due after what was said, whatever comes twice or out of order."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import execution, intents, order_ids
from processors.execution import State, Todo
from processors.step import Context
from schemas import hot, ids
from schemas.ids import Purpose
from schemas.policy import Policy
from schemas.signals import Strategy
from schemas.trading import Entry, Exit, ExitAction, ExitReason, Fill, Order, OrderState, OrderType, OrderUpdate
from schemas.units import OrderSide, Side, Source

BTC = "binance.usdm.BTCUSDT"
CONTEXT = Context("trade.entries", 0, 0, Policy(), 1, "sim", MappingProxyType({}), "trace", BTC)


def entry(at: int = 1000, name: str = "a", not_after: int = 601_000) -> Entry:
    return Entry(
        event_id=f"entry-{name}",
        at=at,
        instrument=BTC,
        account="sim",
        decision_id="d",
        verdict_id="v",
        strategy=Strategy.MODEL,
        side=Side.LONG,
        order_type=OrderType.MARKET,
        quantity=Decimal("0.010"),
        limit_price=None,
        reference_price=Decimal(60000),
        stop_price=Decimal(58500),
        leverage=3,
        client_id=ids.client_id(Purpose.ENTRY, name),
        stop_client_id=ids.client_id(Purpose.STOP, name),
        not_after=not_after,
        policy_version=1,
        source=Source.SYNTHETIC,
    )


def wish(action: ExitAction, client_id: str, name: str = "x", **more: Any) -> Exit:
    return Exit(
        event_id=f"exit-{name}-{client_id}",
        at=2000,
        instrument=BTC,
        account="sim",
        action=action,
        reason=ExitReason.MANUAL,
        detail="",
        position_id="p",
        plan_id="plan",
        plan_revision=1,
        side=Side.LONG,
        client_id=client_id,
        policy_version=1,
        **more,
    )


def fill(client_id: str, trade_id: int = 1, quantity: str = "0.010", side: OrderSide = OrderSide.BUY) -> Fill:
    return Fill(
        event_id=f"fill-{trade_id}",
        at=3000,
        instrument=BTC,
        account="sim",
        trade_id=trade_id,
        order_id="77",
        client_id=client_id,
        purpose=ids.purpose_of(client_id),
        side=side,
        price=Decimal(60010),
        quantity=Decimal(quantity),
        fee=Decimal("0.3"),
        fee_asset="USDT",
        realized_pnl=Decimal(0),
        maker=False,
        backfilled=False,
        source=Source.SYNTHETIC,
    )


def update(client_id: str, status: str, book: str = "ALGO") -> OrderUpdate:
    return OrderUpdate(
        event_id=f"update-{client_id}-{status}",
        at=4000,
        instrument=BTC,
        account="sim",
        book="ALGO" if book == "ALGO" else "ORDER",
        client_id=client_id,
        purpose=ids.purpose_of(client_id),
        exchange_id="9",
        child_order_id=None,
        status=status,
        execution=status,
        order_type="STOP_MARKET",
        side=OrderSide.SELL,
        quantity=Decimal(0),
        filled_quantity=Decimal(0),
        price=Decimal(0),
        trigger_price=Decimal(58500),
        close_position=True,
        reduce_only=True,
        detail="",
    )


def marks(at: int, mark: float | None = None) -> hot.Marks:
    told = [] if mark is None else [hot.Mark(BTC, mark, mark, mark, mark, mark, 0.0, 0)]
    return hot.Marks(event_id=f"m{at}", type="market.marks", at=at, partition=0, marks=told, source="synthetic")


def run(*events: Any, state: State | None = None) -> tuple[State, list[Order]]:
    said: list[Order] = []
    state = state or State()
    for event in events:
        step = execution.step(state, event, CONTEXT)
        assert step.state is not None
        state, _ = step.state, said.extend(step.events)
    return state, said


def say(state: State, first_id: str, reached: OrderState, **more: Any) -> State:
    """The runner's word on an intent, as the stage folds it."""
    order = intents.said(state.intents[first_id], reached, 5000, **more)
    return run(order, state=state)[0]


def due(state: State) -> list[tuple[Todo, str]]:
    return [(work.todo, work.intent.first_id) for work in execution.work(state)]


def test_an_entry_is_due_at_once_and_its_stop_only_after_the_first_fill() -> None:
    e = entry()
    state, said = run(e)
    assert due(state) == [(Todo.SEND, e.client_id)]
    assert [order.state for order in said] == [OrderState.PLANNED, OrderState.PLANNED]
    state = say(state, e.client_id, OrderState.SENDING, sent_at=1)
    state = say(state, e.client_id, OrderState.ACKED, exchange_id="77")
    assert due(state) == []
    state, _ = run(fill(e.client_id, quantity="0.001"), state=state)
    assert due(state) == [(Todo.SEND, e.stop_client_id)]


def test_a_fill_before_the_ack_makes_the_stop_due() -> None:
    e = entry()
    state, _ = run(e)
    state = say(state, e.client_id, OrderState.SENDING, sent_at=1)
    state, said = run(fill(e.client_id), state=state)
    assert [order.state for order in said] == [OrderState.FILLED]
    assert (Todo.SEND, e.stop_client_id) in due(state)


def test_what_was_being_sent_is_resolved_and_never_sent_again() -> None:
    e = entry()
    state, _ = run(e)
    state = say(state, e.client_id, OrderState.SENDING, sent_at=1)
    revived = msgspec.json.decode(msgspec.json.encode(state), type=State)
    assert due(revived) == [(Todo.RESOLVE, e.client_id)]


def test_an_entry_past_its_time_is_abandoned_and_its_stop_with_it() -> None:
    e = entry(not_after=10_000)
    state, _ = run(e, marks(10_001))
    assert due(state) == [(Todo.ABANDON, e.client_id)]
    state = say(state, e.client_id, OrderState.ABANDONED)
    assert due(state) == [(Todo.ABANDON, e.stop_client_id)]
    state = say(state, e.stop_client_id, OrderState.ABANDONED)
    assert state.intents == {}


def test_an_unknown_entry_blocks_the_next_entry_but_no_exit() -> None:
    first, second = entry(name="a"), entry(name="b")
    state, _ = run(first)
    state = say(state, first.client_id, OrderState.SENDING, sent_at=1)
    state = say(state, first.client_id, OrderState.UNKNOWN)
    close = wish(ExitAction.CLOSE, ids.client_id(Purpose.CLOSE, 1), quantity=Decimal("0.01"))
    state, _ = run(second, close, state=state)
    assert (Todo.RESOLVE, first.client_id) in due(state)
    assert (Todo.SEND, close.client_id) in due(state)
    assert (Todo.SEND, second.client_id) not in due(state)


def test_a_stop_that_would_trigger_at_once_closes_what_was_filled() -> None:
    e = entry()
    state, _ = run(e)
    state = say(state, e.client_id, OrderState.SENDING, sent_at=1)
    state, _ = run(fill(e.client_id), state=state)
    state = say(state, e.stop_client_id, OrderState.SENDING, sent_at=2)
    state = say(state, e.stop_client_id, OrderState.REFUSED, code=execution.WOULD_TRIGGER)
    (work,) = execution.work(state)
    assert work.intent.first_id == order_ids.close_id(e.client_id, ExitReason.STOP_PASSED, 0)
    assert (work.intent.quantity, work.intent.reduce_only) == (Decimal("0.010"), True)
    assert work.intent.side is OrderSide.SELL


def test_a_close_waits_until_the_take_profits_are_cancelled() -> None:
    take_profit = ids.client_id(Purpose.TAKE_PROFIT, 1)
    cancel = wish(ExitAction.CANCEL, take_profit)
    close = wish(ExitAction.CLOSE, ids.client_id(Purpose.CLOSE, 1), quantity=Decimal("0.01"))
    state, _ = run(cancel, close)
    cancel_id = order_ids.cancel_id(cancel.event_id)
    assert due(state) == [(Todo.SEND, cancel_id)]
    state = say(state, cancel_id, OrderState.SENDING, sent_at=1)
    state = say(state, cancel_id, OrderState.CANCELED)
    assert due(state) == [(Todo.SEND, close.client_id)]


def test_a_close_does_not_wait_for_a_stop_that_waits_to_be_moved() -> None:
    """Tightening may be held back for want of orders, and with it the end of its predecessor."""
    old, new, close_id = (ids.client_id(Purpose.STOP, "old"), ids.client_id(Purpose.STOP, "new"), ids.client_id(Purpose.CLOSE, "c"))
    place = wish(ExitAction.PLACE_STOP, new, quantity=Decimal("0.01"), trigger_price=Decimal(60100))
    place = place.model_copy(update={"reason": ExitReason.TRAILING})
    state, _ = run(place, wish(ExitAction.CANCEL, old, book="ALGO"), wish(ExitAction.CLOSE, close_id, quantity=Decimal("0.01")))
    assert state.intents[new].tightens
    assert due(state) == [(Todo.SEND, new), (Todo.SEND, close_id)]


def test_a_cancel_never_overtakes_its_order() -> None:
    name = ids.client_id(Purpose.TAKE_PROFIT, 1)
    cancel = wish(ExitAction.CANCEL, name)
    cancel_id = order_ids.cancel_id(cancel.event_id)
    place = wish(ExitAction.PLACE_TAKE_PROFIT, name, quantity=Decimal("0.01"), price=Decimal(61000))
    unsent, _ = run(place, cancel)
    assert due(unsent) == [(Todo.ABANDON, name)]
    unsent = say(unsent, name, OrderState.ABANDONED)
    assert due(unsent) == [(Todo.SEND, cancel_id)]
    sent, _ = run(place)
    sent = say(sent, name, OrderState.SENDING, sent_at=1)
    sent, _ = run(cancel, state=sent)
    assert due(sent) == [(Todo.RESOLVE, name)]
    sent = say(sent, name, OrderState.ACKED, exchange_id="5")
    assert due(sent) == [(Todo.SEND, cancel_id)]


def test_the_old_stop_is_cancelled_after_the_new_one_rests() -> None:
    new, old = ids.client_id(Purpose.STOP, "new"), ids.client_id(Purpose.STOP, "old")
    place = wish(ExitAction.PLACE_STOP, new, quantity=Decimal("0.01"), trigger_price=Decimal(60100))
    state, _ = run(place, wish(ExitAction.CANCEL, old))
    assert due(state) == [(Todo.SEND, new)]
    state = say(state, new, OrderState.SENDING, sent_at=1)
    state = say(state, new, OrderState.ACKED, exchange_id="5")
    assert [todo for todo, _ in due(state)] == [Todo.SEND]


def test_who_wishes_a_second_time_is_told_again_what_came_of_the_first() -> None:
    """Exits, killed between the answer and its own memory of the wish, wishes the same again and waits for the answer."""
    stop = ids.client_id(Purpose.STOP, "tighter")
    place = wish(ExitAction.PLACE_STOP, stop, quantity=Decimal("0.01"), trigger_price=Decimal(60100))
    state, _ = run(place)
    state = say(state, stop, OrderState.SENDING, sent_at=1)
    acked = intents.said(state.intents[stop], OrderState.ACKED, 5000, exchange_id="9")
    state, _ = run(acked, state=state)
    again, (told,) = run(place, state=state)
    assert (told.event_id, told.state, told.exchange_id) == (acked.event_id, OrderState.ACKED, "9"), "the same event, said twice"
    assert again == state
    assert due(again) == []
    ended, (over,) = run(update(stop, "CANCELED"), state=again)
    _, (told,) = run(place, state=ended)
    assert (told.event_id, told.state) == (over.event_id, OrderState.CANCELED)


@pytest.mark.parametrize(
    ("status", "reached"),
    [
        ("FINISHED", OrderState.FILLED),
        ("CANCELED", OrderState.CANCELED),
        ("EXPIRED", OrderState.EXPIRED),
        ("REJECTED", OrderState.EXPIRED),
    ],
)
def test_the_exchange_tells_how_a_resting_stop_ends(status: str, reached: OrderState) -> None:
    stop = ids.client_id(Purpose.STOP, "net")
    state, _ = run(wish(ExitAction.PLACE_STOP, stop, close_position=True, trigger_price=Decimal(58500)))
    state = say(state, stop, OrderState.SENDING, sent_at=1)
    state = say(state, stop, OrderState.ACKED, exchange_id="9")
    state, said = run(update(stop, status), state=state)
    assert [order.state for order in said] == [reached]
    assert state.finished[stop] is reached


def test_a_second_attempt_has_an_id_of_its_own_and_late_words_on_the_first_are_ignored() -> None:
    e = entry()
    state, _ = run(e)
    state = say(state, e.client_id, OrderState.SENDING, sent_at=1)
    state, _ = run(intents.again(state.intents[e.client_id], 1, "absent"), state=state)
    intent = state.intents[e.client_id]
    assert (intent.state, intent.attempt) == (OrderState.PLANNED, 2)
    assert intent.client_id != e.client_id
    first = msgspec.structs.replace(intent, client_id=e.client_id, attempt=1)
    state, _ = run(intents.said(first, OrderState.REFUSED, 1), state=state)
    assert state.intents[e.client_id].state is OrderState.PLANNED


def history() -> list[Any]:
    e = entry()
    state, _ = run(e)
    opening, net = state.intents[e.client_id], state.intents[e.stop_client_id]
    return [
        e,
        intents.said(opening, OrderState.SENDING, 1, sent_at=1),
        intents.said(opening, OrderState.ACKED, 2, exchange_id="77"),
        fill(e.client_id, 1, "0.004"),
        fill(e.client_id, 2, "0.006"),
        intents.said(net, OrderState.SENDING, 3, sent_at=3),
        intents.said(net, OrderState.ACKED, 4, exchange_id="9"),
        update(e.stop_client_id, "NEW"),
        marks(5000),
    ]


@settings(deadline=None)
@given(st.lists(st.integers(0, 8), max_size=30))
def test_whatever_comes_twice_or_late_changes_nothing_at_the_end(repeats: list[int]) -> None:
    whole = history()
    state, _ = run(*whole)
    again, said = run(*(whole[i] for i in repeats), state=state)
    assert again == state
    assert said == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 8), max_size=40))
def test_an_order_on_its_way_is_never_due_to_be_sent_again(order: list[int]) -> None:
    """Whatever the order of events: once SENDING was folded, the same attempt is never to be sent."""
    whole = history()
    state, sent = run(whole[0])[0], set()
    for i in order:
        event = whole[i]
        if isinstance(event, Order) and event.state is OrderState.SENDING:
            sent.add(event.client_id)
        state, _ = run(event, state=state)
        assert not {w.intent.client_id for w in execution.work(state) if w.todo is Todo.SEND} & sent


def test_a_stop_that_triggers_while_its_entry_fills_cancels_the_rest_and_what_still_fills_gets_a_net() -> None:
    e = entry()
    state, _ = run(e)
    state = say(state, e.client_id, OrderState.SENDING, sent_at=1)
    state = say(state, e.client_id, OrderState.ACKED, exchange_id="77")
    state, _ = run(fill(e.client_id, 1, "0.004"), state=state)
    state = say(state, e.stop_client_id, OrderState.SENDING, sent_at=2)
    state = say(state, e.stop_client_id, OrderState.ACKED, exchange_id="9")
    state, _ = run(update(e.stop_client_id, "TRIGGERING"), state=state)
    (cancel,) = execution.work(state)
    assert (cancel.todo, cancel.intent.cancels, cancel.intent.book) == (Todo.SEND, e.client_id, "ORDER")
    state, _ = run(update(e.stop_client_id, "TRIGGERED"), update(e.stop_client_id, "FINISHED"), state=state)
    state, _ = run(fill(e.client_id, 3, "0.006"), state=state)
    nets = [work.intent for work in execution.work(state) if work.intent.purpose is Purpose.STOP]
    assert [(net.close_position, net.trigger_price) for net in nets] == [(True, Decimal(58500))]
    assert nets[0].client_id != e.stop_client_id


def test_each_fill_whose_net_would_trigger_at_once_is_closed() -> None:
    e = entry()
    state, _ = run(e)
    state = say(state, e.client_id, OrderState.SENDING, sent_at=1)
    state = say(state, e.client_id, OrderState.ACKED, exchange_id="77")
    for trade_id, quantity in ((1, "0.004"), (2, "0.006")):
        state, _ = run(fill(e.client_id, trade_id, quantity), state=state)
        (net,) = [work.intent for work in execution.work(state) if work.intent.purpose is Purpose.STOP]
        state = say(state, net.first_id, OrderState.SENDING, sent_at=2)
        state = say(state, net.first_id, OrderState.REFUSED, code=execution.WOULD_TRIGGER)
        (close,) = [work.intent for work in execution.work(state) if work.intent.purpose is Purpose.CLOSE]
        state = say(state, close.first_id, OrderState.SENDING, sent_at=3)
        state = say(state, close.first_id, OrderState.ACKED, exchange_id="9")


def resting_limit(filled: str = "") -> tuple[Entry, State]:
    """A LIMIT entry that rests, with a part of it filled or none; its time is over at 10,000."""
    e = entry(not_after=10_000).model_copy(update={"order_type": OrderType.LIMIT, "limit_price": Decimal(59900)})
    state, _ = run(e)
    state = say(state, e.client_id, OrderState.SENDING, sent_at=1)
    state = say(state, e.client_id, OrderState.ACKED, exchange_id="77")
    if filled:
        state, _ = run(fill(e.client_id, 1, filled), state=state)
        state = say(state, e.stop_client_id, OrderState.SENDING, sent_at=2)
        state = say(state, e.stop_client_id, OrderState.ACKED, exchange_id="9")
    return e, state


def test_an_entry_that_rests_past_its_time_is_cancelled_once_and_says_so() -> None:
    e, state = resting_limit()
    state, said = run(marks(10_000), state=state)
    assert (due(state), said) == ([], [])
    state, said = run(marks(12_000), marks(13_000), state=msgspec.json.decode(msgspec.json.encode(state), type=State))
    assert [(order.cancels, order.state, order.reason) for order in said] == [
        (e.client_id, OrderState.PLANNED, "2 s of venue time past its end")
    ]
    (cancel,) = [work.intent for work in execution.work(state)]
    assert (cancel.cancels, cancel.book, cancel.entry) == (e.client_id, "ORDER", False)
    state = say(state, cancel.first_id, OrderState.SENDING, sent_at=3)
    state = say(state, cancel.first_id, OrderState.CANCELED)
    state, said = run(marks(14_000), update(e.client_id, "CANCELED", "ORDER"), state=state)
    assert [(order.client_id, order.state, order.reason) for order in said] == [
        (e.client_id, OrderState.EXPIRED, "4 s of venue time past its end")
    ]
    assert due(state) == [(Todo.ABANDON, e.stop_client_id)]


def test_what_a_resting_entry_has_filled_keeps_its_net_when_the_rest_is_cancelled() -> None:
    e, state = resting_limit(filled="0.004")
    state, _ = run(marks(12_000), state=state)
    (cancel,) = [work.intent for work in execution.work(state)]
    state = say(state, cancel.first_id, OrderState.SENDING, sent_at=3)
    state = say(state, cancel.first_id, OrderState.CANCELED)
    ended = update(e.client_id, "CANCELED", "ORDER").model_copy(update={"filled_quantity": Decimal("0.004")})
    state, (said,) = run(ended, state=state)
    assert (said.state, said.filled_quantity) == (OrderState.EXPIRED, Decimal("0.004"))
    assert (due(state), state.finished[e.client_id]) == ([], OrderState.FILLED)
    assert {intent.first_id: intent.state for intent in state.intents.values()} == {e.stop_client_id: OrderState.ACKED}


def test_a_cancel_of_the_rest_that_was_refused_to_its_end_is_wished_anew() -> None:
    e, state = resting_limit()
    named = set()
    for at in (12_000, 13_000, 14_000):
        state, _ = run(marks(at), state=state)
        (cancel,) = [work.intent for work in execution.work(state)]
        assert cancel.cancels == e.client_id
        named.add(cancel.first_id)
        state = say(state, cancel.first_id, OrderState.SENDING, sent_at=3)
        state = say(state, cancel.first_id, OrderState.REFUSED, code=-1)
    assert len(named) == 3


def test_a_cancel_of_the_rest_finds_the_order_filled() -> None:
    e, state = resting_limit()
    state, _ = run(marks(12_000), state=state)
    (cancel,) = [work.intent for work in execution.work(state)]
    state = say(state, cancel.first_id, OrderState.SENDING, sent_at=3)
    state = say(state, cancel.first_id, OrderState.CANCELED)  # the exchange knows of no such open order
    state, said = run(fill(e.client_id), marks(13_000), state=state)
    assert [(order.client_id, order.state) for order in said] == [(e.client_id, OrderState.FILLED)]
    assert due(state) == [(Todo.SEND, e.stop_client_id)]


PART = Decimal("0.006")


def test_a_fill_that_a_query_has_counted_already_is_counted_once() -> None:
    limit = entry().model_copy(update={"order_type": OrderType.LIMIT, "limit_price": Decimal(60000)})
    found = intents.said(execution.step(None, limit, CONTEXT).state.intents[limit.client_id], OrderState.ACKED, 5, filled=PART)  # type: ignore[union-attr]
    gone = update(limit.client_id, "CANCELED", "ORDER").model_copy(update={"filled_quantity": PART})
    for history in ([found, fill(limit.client_id, 1, "0.006")], [found, gone, fill(limit.client_id, 1, "0.006")]):
        state, said = None, list[Order]()
        for event in (limit, *history):
            step = execution.step(state, event, CONTEXT)
            state, said = step.state, [*said, *step.events]
        assert OrderState.FILLED not in [order.state for order in said]
        assert all(order.filled_quantity <= PART for order in said)


def test_an_entry_whose_stop_the_mark_has_passed_is_not_sent() -> None:
    """At the price or beyond it. The state alone abandons nothing: its mark may be of before an outage."""
    for mark, passed in ((58500.5, False), (58500.0, True), (40000.0, True)):
        e = entry()
        state, _ = run(marks(1000, 60000.0), e, marks(2000, mark))
        (due,) = execution.work(state)
        assert (due.todo, due.intent.entry) == (Todo.SEND, True)
        assert ("past its stop at 58500" in execution.stopped(due.intent, state)) == passed
        sent = say(state, e.client_id, OrderState.SENDING)
        assert [work.todo for work in execution.work(sent)] == [Todo.RESOLVE]
        state, _ = run(marks(3000), state=state)
        assert state.mark == mark, "marks that do not name it tell nothing"
