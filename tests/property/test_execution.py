"""Orders exist exactly once: lost answers, crashes at every step, late and doubled words; at most one accepted order per intent."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from decimal import Decimal as D
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import execution, intents
from processors.execution import State, Todo, Work
from processors.intents import Intent
from processors.step import Context
from schemas import hot, ids
from schemas.ids import Purpose
from schemas.policy import Policy
from schemas.signals import Strategy
from schemas.trading import Entry, Exit, ExitAction, ExitReason, Fill, Order, OrderState, OrderType, OrderUpdate
from schemas.units import OrderSide, Side, Source

BTC = "binance.usdm.BTCUSDT"
CTX = Context("any", 0, 0, Policy(), 1, "sim", {})
QUANTITY = D("0.010")


class Crash(Exception):
    """kill -9."""


class World:
    """`log` is trade.orders; `folded` how far the stage has read it; the view is what a desk works on until it dies."""

    def __init__(self) -> None:
        self.state = State()
        self.view = self.state
        self.log: list[Order] = []
        self.folded = 0
        self.accepted: dict[str, str] = {}
        self.words: deque[Any] = deque()
        self.trades = 0
        self.resting: dict[str, Intent] = {}

    # the stage

    def take(self, event: Any) -> None:
        result = execution.step(self.state, event, CTX)
        assert result.state is not None
        self.state = msgspec.json.decode(msgspec.json.encode(result.state), type=State)
        self.log.extend(result.events)
        self.look()

    def fold(self) -> None:
        if self.folded < len(self.log):
            self.folded += 1
            self.take(self.log[self.folded - 1])

    def look(self) -> None:
        """The desk's view: the state, and what is in the log but not folded yet."""
        self.view = self.state
        for order in self.log[self.folded :]:
            self.view = execution.fold(self.view, order)

    def say(self, order: Order) -> None:
        self.log.append(order)
        self.view = execution.fold(self.view, order)

    def restart(self) -> None:
        """The next owner has read trade.orders to its end before it is told anything."""
        while self.folded < len(self.log):
            self.fold()

    # the desk

    def work(self, choice: int, fault: str) -> None:
        due = execution.work(self.view)
        if not due:
            return
        item = due[choice % len(due)]
        try:
            self.do(item, fault)
        except Crash:
            self.restart()

    def do(self, item: Work, fault: str) -> None:
        intent = item.intent
        match item.todo:
            case Todo.ABANDON:
                self.say(intents.said(intent, OrderState.ABANDONED, 1, reason=item.why))
            case Todo.SEND:
                if fault == "crash before sending":
                    raise Crash
                self.say(intents.said(intent, OrderState.SENDING, 1, sent_at=1))
                if fault == "crash before the call":
                    raise Crash
                self.call(intent, fault)
            case Todo.RESOLVE:
                if fault == "crash before the call":
                    raise Crash
                if intent.cancels in self.resting:
                    self.say(intents.again(intent, 1, "the order still rests"))
                elif intent.cancels is None and intent.client_id in self.accepted:
                    self.say(intents.said(intent, OrderState.ACKED, 1, exchange_id="1", reason="found"))
                elif intent.cancels is not None:
                    self.say(intents.said(intent, OrderState.CANCELED, 1))
                else:
                    self.say(intents.again(intent, 1, "proven absent"))

    def call(self, intent: Intent, fault: str) -> None:
        if intent.cancels is not None:
            self.cancel(intent, fault)
            return
        if fault == "refused":
            self.say(intents.said(intent, OrderState.REFUSED, 1, code=-2019))
            return
        if fault != "request lost":
            self.accept(intent)
        if fault == "crash before the answer":
            raise Crash
        if fault in ("answer lost", "request lost"):
            self.say(intents.said(intent, OrderState.UNKNOWN, 1, reason="timeout"))
        else:
            self.say(intents.said(intent, OrderState.ACKED, 1, exchange_id="1"))

    def cancel(self, intent: Intent, fault: str) -> None:
        """A refused one is over, as after its last attempt; a lost answer is asked for again by the desk, which finds it gone."""
        if fault == "refused":
            self.say(intents.said(intent, OrderState.REFUSED, 1, code=-1))
            return
        if intent.cancels in self.resting and fault != "request lost":
            self.words.append(self.ended(self.resting.pop(intent.cancels)))
        if fault == "crash before the answer":
            raise Crash
        self.say(intents.said(intent, OrderState.UNKNOWN if "lost" in fault else OrderState.CANCELED, 1))

    def ended(self, intent: Intent) -> OrderUpdate:
        filled = QUANTITY / 2 if intent.first_id == LIMITS[1].client_id else D(0)
        said = {"event_id": f"end-{intent.client_id}", "status": "CANCELED", "book": "ORDER", "filled_quantity": filled}
        return self.rests(intent).model_copy(update=said)

    def accept(self, intent: Intent) -> None:
        """The exchange takes it, and its user stream will tell: a fill in two parts, or that it rests, or a part of it."""
        assert intent.client_id not in self.accepted
        self.accepted[intent.client_id] = intent.first_id
        if intent.order_type is OrderType.LIMIT:
            self.resting[intent.client_id] = intent
            if intent.first_id == LIMITS[1].client_id:
                self.trades += 1
                self.words.append(self.fill(intent, self.trades))
        elif intent.entry or intent.purpose is Purpose.CLOSE:
            for _ in range(2):
                self.trades += 1
                self.words.append(self.fill(intent, self.trades))
        else:
            self.words.append(self.rests(intent))

    def fill(self, intent: Intent, trade_id: int) -> Fill:
        return Fill(
            event_id=f"fill-{trade_id}",
            at=1,
            instrument=BTC,
            account="sim",
            trade_id=trade_id,
            order_id="1",
            client_id=intent.client_id,
            purpose=intent.purpose,
            side=intent.side,
            price=D(60000),
            quantity=QUANTITY / 2,
            fee=D(0),
            fee_asset="USDT",
            realized_pnl=D(0),
            maker=False,
            backfilled=False,
            source=Source.SYNTHETIC,
        )

    def rests(self, intent: Intent) -> OrderUpdate:
        return OrderUpdate(
            event_id=f"u-{intent.client_id}",
            at=1,
            instrument=BTC,
            account="sim",
            book="ALGO",
            client_id=intent.client_id,
            purpose=intent.purpose,
            exchange_id="1",
            child_order_id=None,
            status="NEW",
            execution="NEW",
            order_type="STOP_MARKET",
            side=OrderSide.SELL,
            quantity=D(0),
            filled_quantity=D(0),
            price=D(0),
            trigger_price=D(0),
            close_position=True,
            reduce_only=True,
            detail="",
        )

    def hear(self, twice: bool) -> None:
        if self.words:
            word = self.words.popleft()
            self.take(word)
            if twice:
                self.take(word)

    # what must hold

    def check(self) -> None:
        per_intent = Counter(self.accepted.values())
        assert not [name for name, count in per_intent.items() if count > 1], "two orders for one intent"
        assert all(order.quantity is None or order.filled_quantity <= order.quantity for order in self.log), "more than was ordered"
        sending = {order.client_id for order in self.log if order.state is OrderState.SENDING}
        assert sending >= set(self.accepted), "an order without its line in the outbox"

    def finish(self) -> None:
        """Without further faults everything comes to an end."""
        for n in range(300):
            if n % 50 == 0:  # time goes on being told
                self.take(hot.Marks("m", "market.marks", self.state.market_at, 0, [], "synthetic"))
            self.hear(False)
            self.fold()
            self.work(0, "")
            self.check()
        assert execution.work(self.view) == []
        assert not self.resting or self.view.market_at <= 1_000, "an entry rests past its time"
        resting = {intent.first_id for intent in self.resting.values()}
        waiting = {net.first_id for net in self.view.intents.values() if net.after in resting}
        left = {intent.state for intent in self.view.intents.values() if intent.first_id not in waiting}
        assert left <= {OrderState.ACKED, OrderState.FILLED}


def entry(name: str) -> Entry:
    return Entry(
        event_id=f"entry-{name}",
        at=1,
        instrument=BTC,
        account="sim",
        decision_id="d",
        verdict_id="v",
        strategy=Strategy.MODEL,
        side=Side.LONG,
        order_type=OrderType.MARKET,
        quantity=QUANTITY,
        limit_price=None,
        reference_price=D(60000),
        stop_price=D(58500),
        leverage=3,
        client_id=ids.client_id(Purpose.ENTRY, name),
        stop_client_id=ids.client_id(Purpose.STOP, name),
        not_after=10**12,
        policy_version=1,
        source=Source.SYNTHETIC,
    )


def close() -> Exit:
    return Exit(
        event_id="exit-1",
        at=1,
        instrument=BTC,
        account="sim",
        action=ExitAction.CLOSE,
        reason=ExitReason.MANUAL,
        detail="",
        position_id="p",
        plan_id="plan",
        plan_revision=1,
        side=Side.LONG,
        client_id=ids.client_id(Purpose.CLOSE, 1),
        quantity=QUANTITY,
        policy_version=1,
    )


def limit(name: str) -> Entry:
    """Rests; what it is not filled by 1,000 is not wanted any more."""
    return entry(name).model_copy(update={"order_type": OrderType.LIMIT, "limit_price": D(59900), "not_after": 1_000})


INTENTS: tuple[Any, ...] = (entry("a"), entry("b"), close())
LIMITS = (limit("c"), limit("d"))
FAULTS = (
    "",
    "",
    "crash before sending",
    "crash before the call",
    "crash before the answer",
    "answer lost",
    "request lost",
    "refused",
)

acts = st.one_of(
    st.tuples(st.just("intent"), st.integers(0, 2), st.just("")),
    st.tuples(st.just("work"), st.integers(0, 3), st.sampled_from(FAULTS)),
    st.tuples(st.just("work"), st.integers(0, 3), st.sampled_from(FAULTS)),
    st.tuples(st.just("fold"), st.just(0), st.just("")),
    st.tuples(st.just("hear"), st.integers(0, 1), st.just("")),
    st.tuples(st.just("restart"), st.just(0), st.just("")),
    st.tuples(st.just("mark"), st.integers(1, 10**6), st.just("")),
)


def live(world: World, history: list[tuple[str, int, str]], wishes: Sequence[Any]) -> None:
    """Checked after every act, and brought to its end."""
    for act, n, fault in history:
        match act:
            case "intent":
                world.take(wishes[n % len(wishes)])  # again and again: the second time it does nothing
            case "work":
                world.work(n, fault)
            case "fold":
                world.fold()
            case "hear":
                world.hear(bool(n))
            case "restart":
                world.restart()
            case "mark":
                world.take(hot.Marks("m", "market.marks", n, 0, [], "synthetic"))
        world.check()
    world.finish()


@settings(max_examples=300, deadline=None)
@given(st.lists(acts, max_size=60))
def test_at_most_one_order_per_intent_whatever_fails(history: list[tuple[str, int, str]]) -> None:
    world = World()
    world.take(INTENTS[0])
    live(world, history, INTENTS)
    filled = {name for name in world.accepted.values() if ids.purpose_of(name) is Purpose.ENTRY}
    for each in INTENTS[:2]:
        if each.client_id in filled:
            stop = [name for name in world.accepted.values() if name == each.stop_client_id]
            refused = world.state.finished.get(each.stop_client_id) is OrderState.REFUSED
            assert stop or refused, "a filled entry without its stop"


@settings(max_examples=40, deadline=None)
@given(st.lists(acts, max_size=40))
def test_no_entry_rests_past_its_time_whatever_fails_and_what_it_filled_is_protected(history: list[tuple[str, int, str]]) -> None:
    world = World()
    live(world, history, LIMITS[:2])
    world.take(hot.Marks("m", "market.marks", 10**6 + 1, 0, [], "synthetic"))
    world.finish()
    assert not world.resting
    assert all(not intent.entry for intent in world.view.intents.values()), "nothing of an entry is left"
    half = LIMITS[1]
    if half.client_id in world.accepted.values():
        stop = world.state.intents.get(half.stop_client_id)
        refused = world.state.finished.get(half.stop_client_id) is OrderState.REFUSED
        assert refused or (stop is not None and stop.state is OrderState.ACKED), "what it filled has no stop"
