"""Exits, execution and positions around a small exchange, in any order of reading: what must hold always, and at rest.

Four topics are queues that are read when the draw says so, so every race of the join is met. The exchange here is the unkind one:
it keeps reduce-only orders of a flat position resting, and whoever wants them gone must cancel them. Another hand deletes stops,
reduces, adds and turns the position around.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal as D
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import execution, exits, intents, positions
from processors.execution import Todo
from processors.exits.calm import Rests
from processors.exits.front import tightest
from processors.exits.liquidation import room
from processors.filters import Filters
from processors.step import Context
from schemas import hot, ids
from schemas.ids import Purpose
from schemas.policy import ExitMode, Exits, Policy, Profile, Risk, TpSlMode
from schemas.signals import Strategy
from schemas.trading import Entry, Exit, ExitDecision, Fill, LegKind, LegState, OrderState, OrderType, OrderUpdate, Position
from schemas.units import OrderSide, Side, Source

BTC = "binance.usdm.BTCUSDT"
HOME = ids.partition_of(BTC)
RULES = Filters(D("0.1"), D("0.001"), D("0.001"), D(120), D(5))
BOOK = {BTC: RULES}
POLICY = Policy()
ENTRY_PRICE = 60_000


class World:
    def __init__(self, side: Side, quantity: int, policy: Policy = POLICY) -> None:
        self.side, self.wanted, self.policy = side, D(quantity) / 1000, policy
        self.price, self.held, self.trades, self.marks = D(ENTRY_PRICE), D(0), 0, 0
        self.limits: dict[str, tuple[D, D]] = {}
        self.stops: dict[str, tuple[D, D | None]] = {}
        self.sides: dict[str, Side] = {}
        self.fronts: dict[str, D] = {}
        self.added = False
        self.exits: exits.State | None = None
        self.execution: execution.State | None = None
        self.positions: positions.State | None = None
        self.fills: deque[Fill] = deque()
        self.revisions: deque[Position] = deque()
        self.orders: deque[Any] = deque()
        self.updates: deque[OrderUpdate] = deque()
        self.intents: deque[Exit] = deque()
        self.offset = 0
        self.decisions: list[ExitDecision | exits.Hold] = []
        self.sent: set[str] = set()
        self.rests: Rests = {}
        self.calm = 0
        self.begin()

    @property
    def at(self) -> int:
        return 1_000_000 + self.marks * 1000

    def begin(self) -> None:
        sign = self.side.sign
        name = f"entry-{self.trades}"
        self.entry = Entry(
            event_id=name,
            at=self.at,
            instrument=BTC,
            account="sim",
            decision_id="d",
            verdict_id="v",
            strategy=Strategy.MODEL,
            side=self.side,
            order_type=OrderType.MARKET,
            quantity=self.wanted,
            limit_price=None,
            reference_price=self.price,
            stop_price=(self.price * (1 - sign * D("0.025"))).quantize(D("0.1")),
            leverage=3,
            client_id=ids.client_id(Purpose.ENTRY, name),
            stop_client_id=ids.client_id(Purpose.STOP, name),
            not_after=self.at + 10**9,
            policy_version=1,
            source=Source.SYNTHETIC,
        )
        self.to_execution(self.entry)

    # the exchange

    def fill(self, client_id: str, side: OrderSide, quantity: D, price: D) -> None:
        self.trades += 1
        self.held += quantity if side is OrderSide.BUY else -quantity
        self.fills.append(
            Fill(
                event_id=f"fill-{self.trades}",
                at=self.at,
                instrument=BTC,
                account="sim",
                trade_id=self.trades,
                order_id="1",
                client_id=client_id,
                purpose=ids.purpose_of(client_id),
                side=side,
                price=price,
                quantity=quantity,
                fee=D("0.01"),
                fee_asset="USDT",
                realized_pnl=D(0),
                maker=False,
                backfilled=False,
                source=Source.SYNTHETIC,
            )
        )

    def reduce(self, client_id: str, quantity: D | None, price: D) -> bool:
        """A reduce-only trade: trimmed to what is held; False when there is nothing."""
        side = self.sides.get(client_id, self.side)
        most = abs(self.held) if self.held * side.sign > 0 else D(0)
        part = most if quantity is None else min(quantity, most)
        if part > 0:
            self.fill(client_id, side.closes_with, part, price)
        self.expire()
        return part > 0

    def expire(self) -> None:
        """closePosition stops end with the position that they close."""
        for name in [name for name, (_, q) in self.stops.items() if q is None and self.held * self.sides[name].sign <= 0]:
            del self.stops[name]
            self.update(name, "EXPIRED", "ALGO")

    def foreign(self, quantity: D) -> None:
        """Another hand buys (or sells, below zero), whatever there is: it adds, or turns the position around."""
        self.added = True
        self.fill("web_1", OrderSide.BUY if quantity > 0 else OrderSide.SELL, abs(quantity), self.price)
        if self.held:
            self.side = Side.LONG if self.held > 0 else Side.SHORT
        self.expire()

    def update(self, client_id: str, status: str, book: str) -> None:
        self.updates.append(
            OrderUpdate(
                event_id=f"u-{client_id}-{status}",
                at=self.at,
                instrument=BTC,
                account="sim",
                book="ALGO" if book == "ALGO" else "ORDER",
                client_id=client_id,
                purpose=ids.purpose_of(client_id),
                exchange_id="9",
                child_order_id=None,
                status=status,
                execution=status,
                order_type="",
                side=self.side.closes_with,
                quantity=D(0),
                filled_quantity=D(0),
                price=D(0),
                trigger_price=D(0),
                close_position=False,
                reduce_only=True,
                detail="",
            )
        )

    def move(self, bps: int) -> None:
        """The price moves; what it reaches fills; then the marks record of this second."""
        self.price = (self.price * (1 + D(bps) / 10_000)).quantize(D("0.1"))
        for name, (trigger, quantity) in sorted(self.stops.items()):
            if name in self.stops and (self.price - trigger) * self.sides[name].sign <= 0:
                del self.stops[name]
                self.update(name, "FINISHED" if self.reduce(name, quantity, self.price) else "EXPIRED", "ALGO")
        for name, (limit, quantity) in sorted(self.limits.items()):
            if (self.price - limit) * self.sides[name].sign >= 0:
                del self.limits[name]
                if not self.reduce(name, quantity, limit):
                    self.update(name, "EXPIRED", "ORDER")
                elif self.fills[-1].quantity < quantity:
                    self.update(name, "EXPIRED", "ORDER")

    def call(self, intent: intents.Intent) -> tuple[OrderState, int | None]:
        """What the exchange answers to an order."""
        if intent.cancels is not None:
            book = "ALGO" if intent.cancels in self.stops else "ORDER"
            if self.stops.pop(intent.cancels, None) or self.limits.pop(intent.cancels, None):
                self.update(intent.cancels, "CANCELED", book)
            return OrderState.CANCELED, None
        assert intent.client_id not in self.sent, "two orders of one id"
        self.sent.add(intent.client_id)
        side = self.sides[intent.client_id] = Side.LONG if intent.side is OrderSide.SELL else Side.SHORT
        if intent.entry:
            assert intent.quantity is not None
            first = (intent.quantity / 3).quantize(D("0.001"))
            for part in (first, intent.quantity - first):
                if part:
                    self.fill(intent.client_id, intent.side, part, self.price)
            self.side = Side.LONG if self.held > 0 else Side.SHORT
        elif intent.book == "ALGO":
            assert intent.trigger_price is not None
            assert intent.trigger_price % RULES.tick == 0
            if (self.price - intent.trigger_price) * side.sign <= 0:
                return OrderState.REFUSED, -2021
            if intent.quantity is None and any(q is None and self.sides[name] is side for name, (_, q) in self.stops.items()):
                return OrderState.REFUSED, -4130
            self.stops[intent.client_id] = (intent.trigger_price, intent.quantity)
        elif intent.price is not None:
            assert intent.quantity is not None
            assert intent.price % RULES.tick == 0
            assert intent.quantity % RULES.step == 0
            self.limits[intent.client_id] = (intent.price, intent.quantity)
        elif not self.reduce(intent.client_id, intent.quantity, self.price):
            return OrderState.REFUSED, -2022
        return OrderState.ACKED, None

    # the workers

    def context(self) -> Context:
        return Context("any", HOME, self.offset, self.policy, 1, "sim", {})

    def to_execution(self, event: Any) -> None:
        result = execution.step(self.execution, event, self.context())
        self.execution = result.state
        for order in result.events:
            self.orders.append(order)

    def say(self, order: Any) -> None:
        assert self.execution is not None
        self.execution = execution.fold(self.execution, order)
        self.orders.append(order)

    def work(self, choice: int) -> bool:
        due = execution.work(self.execution) if self.execution else []
        if not due:
            return False
        todo, intent, why = due[choice % len(due)]
        if todo is Todo.ABANDON:
            self.say(intents.said(intent, OrderState.ABANDONED, self.at, reason=why))
            return True
        assert todo is Todo.SEND
        self.say(intents.said(intent, OrderState.SENDING, self.at, sent_at=1))
        state, code = self.call(intent)
        self.say(intents.said(intent, state, self.at, code=code))
        return True

    def to_exits(self, event: Any) -> None:
        asked = exits.step(self.exits, event, self.context(), BOOK)
        rest = self.rests.get(BTC)
        was = rest.plan if rest else None
        result = exits.step(self.exits, event, self.context(), BOOK, self.rests)
        assert result == asked, "a mark that passes without asking the rules comes to the same"
        self.calm += rest is not None and rest.plan is not was
        self.exits = result.state
        if result.state is not None:
            assert msgspec.json.decode(msgspec.json.encode(result.state), type=exits.State) == result.state
        for said in result.events:
            if isinstance(said, Exit):
                assert said.trigger_price is None or said.trigger_price > 0
                self.intents.append(said)
            elif isinstance(said, ExitDecision | exits.Hold):
                self.decisions.append(said)
        self.check()

    def mark(self, wick: int = 0) -> None:
        """`wick`: tenths of a tick that the mark had reached on either side; a mark price is not on tick."""
        self.marks += 1
        self.offset += 1
        price = float(self.price) + wick / 100
        mark = hot.Mark(BTC, price, price + abs(wick) * 0.7, price - abs(wick) * 0.7, price, price, 0.0, 0)
        before = len(self.decisions)
        shadows = len(self.exits.shadows) if self.exits else 0
        was_open = self.exits is not None and self.exits.plan is not None
        self.to_exits(hot.Marks(f"m{self.offset}", "market.marks", self.at, HOME, [mark], "synthetic"))
        made = [d for d in self.decisions[before:] if d.decision not in ("SWEEP", "DONE")]
        assert len([d for d in made if d.mode == "LIVE"]) == (1 if was_open else 0)
        assert len([d for d in made if d.mode == "SHADOW"]) == shadows
        assert all(d.marks_offset == self.offset for d in made)

    def read(self, which: int) -> bool:
        queue = (self.fills, self.revisions, self.orders, self.updates, self.intents)[which % 5]
        if not queue:
            return False
        event = queue.popleft()
        if isinstance(event, Fill):
            self.to_execution(event)
            result = positions.step(self.positions, event, self.context())
            self.positions = result.state
            self.revisions.extend(each for each in result.events if isinstance(each, Position))
        elif isinstance(event, OrderUpdate | Exit):
            self.to_execution(event)
            if isinstance(event, Exit):
                self.to_execution(event)  # twice: the second must do nothing
        else:
            self.to_exits(event)
        return True

    def check(self) -> None:
        """Always: the plan's own promises."""
        plan = self.exits.plan if self.exits else None
        if plan is None:
            return
        if plan.front is not None:
            before = self.fronts.setdefault(plan.plan_id, plan.front)
            assert (plan.front - before) * plan.side.sign >= 0, "break-even and trailing only tighten"
            assert (plan.front - plan.stop_price) * plan.side.sign > 0
            assert 0 < plan.front
            assert plan.front % RULES.tick == 0
            self.fronts[plan.plan_id] = plan.front
        if plan.wish is None:
            far = (plan.entry_price - tightest(plan)) * plan.side.sign / plan.entry_price
            assert far <= room(self.policy.risk.leverage, self.policy.risk) + D("0.00001"), "liquidation comes before the stop"
        profits = sum((leg.remaining for leg in plan.of(LegKind.TAKE_PROFIT) if leg.working), D(0))
        assert profits <= plan.quantity
        if plan.net is None:  # until execution's own level is known, the plan's is on the right side of the entry
            assert self.added or (plan.entry_price - plan.stop_price) * plan.side.sign > 0
        assert len([leg for leg in plan.of(LegKind.STOP) if leg.working]) <= 2
        assert len([leg for leg in plan.of(LegKind.NET) if leg.live]) <= 2  # ours and execution's, when it was late
        for leg in plan.legs:
            assert leg.price > 0
            assert leg.price % RULES.tick == 0
            assert leg.quantity is None or (leg.quantity > 0 and leg.quantity % RULES.step == 0)

    def settle(self, marks: int) -> None:
        """Everything is read and done, marks go on without moving."""
        for _ in range(marks):
            for _ in range(200):
                moved = [self.read(which) for which in range(5)]
                moved.append(self.work(0))
                if not any(moved):
                    break
            else:
                raise AssertionError("the street does not come to rest")
            self.move(0)
            self.mark()

    def rest(self) -> None:
        """What must be true of the exchange when the street has come to rest."""
        self.settle(80)
        plan = self.exits.plan if self.exits else None
        if self.held:
            assert plan is not None
            assert plan.quantity == abs(self.held)
            nets = [trigger for trigger, quantity in self.stops.values() if quantity is None]
            assert nets, "a position without its net"
            assert all((self.price - trigger) * self.side.sign > 0 for trigger in nets)
            assert plan.wish is None, "a close was wished and nothing came of it"
            assert (self.price - plan.stop_price) * self.side.sign > 0
            selling = sum((quantity for _, quantity in self.limits.values()), D(0))
            assert selling <= abs(self.held)
            done = [leg for leg in plan.of(LegKind.TAKE_PROFIT) if leg.state is LegState.DONE]
            lost = [leg for leg in plan.of(LegKind.TAKE_PROFIT) if leg.state is LegState.LOST]
            if not lost:
                assert selling == abs(self.held), "a part of the position has no take-profit"
            fronts = [(trigger, quantity) for trigger, quantity in self.stops.values() if quantity is not None]
            assert fronts == ([(plan.front, abs(self.held))] if plan.front is not None else [])
            if done:
                assert plan.break_even
                assert plan.front is not None
                assert self.added or (plan.front - plan.entry_price) * self.side.sign > 0
        else:
            assert plan is None
            assert not self.stops, "a stop outlived its position"
            assert not self.limits, "a take-profit outlived its position"


acts = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 4)),
    st.tuples(st.just("read"), st.integers(0, 4)),
    st.tuples(st.just("work"), st.integers(0, 5)),
    st.tuples(st.just("move"), st.integers(-130, 130)),
    st.tuples(st.just("drift"), st.integers(-30, 30)),
    st.tuples(st.just("steal"), st.integers(0, 3)),
    st.tuples(st.just("foreign"), st.integers(1, 20)),
    st.tuples(st.just("hand"), st.integers(-40, 40)),
    st.tuples(st.just("again"), st.just(0)),
)


policies = st.builds(
    lambda profile, mode, lane, leverage: Policy(
        exits=Exits(profile=profile, tp_sl_mode=mode, mode=lane, tighten_every_s=2), risk=Risk(leverage=leverage)
    ),
    st.sampled_from(list(Profile)),
    st.sampled_from(list(TpSlMode)),
    st.sampled_from(list(ExitMode)),
    st.sampled_from([3, 22]),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(Side)), st.integers(1, 40), st.booleans(), st.lists(acts, max_size=80), policies)
def test_whatever_happens_in_whatever_order_nothing_is_naked_and_nothing_is_left_behind(
    side: Side, quantity: int, protected: bool, history: list[tuple[str, int]], policy: Policy
) -> None:
    world = World(side, quantity, policy)
    if protected:
        world.settle(2)
    for act, n in history:
        match act:
            case "read":
                world.read(n)
            case "work":
                world.work(n)
            case "move":
                world.move(n)
                world.mark()
            case "drift":  # marks alone, and time
                world.mark(n)
            case "steal" if world.stops:  # a hand deletes a stop on the exchange
                name = sorted(world.stops)[n % len(world.stops)]
                del world.stops[name]
                world.update(name, "CANCELED", "ALGO")
            case "foreign":  # a hand reduces
                world.reduce("web_1", D(n) / 1000, world.price)
            case "hand" if n and world.held:
                world.foreign(D(n) / 1000)
            case "again" if not world.held and not world.fills and world.positions and world.exits is None:
                world.begin()
    world.rest()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(list(Side)),
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(-9, 12), st.integers(-30, 30)), min_size=40),
    policies,
)
def test_at_most_marks_the_rules_are_not_asked_and_it_comes_to_the_same(
    side: Side, quantity: int, path: list[tuple[int, int]], policy: Policy
) -> None:
    """The comparison itself stands in `to_exits`. The path drifts to the better side, so that stops trail."""
    world = World(side, quantity, policy)
    world.settle(8)
    for bps, wick in path:
        world.move(bps * side.sign)
        world.mark(wick)
        for which in range(5):
            world.read(which)
        world.work(0)
    held = world.exits is not None and world.exits.plan is not None
    assert world.calm or not held or policy.exits.mode is ExitMode.SHADOW, "a shadow, while it lives, is asked at every mark"
