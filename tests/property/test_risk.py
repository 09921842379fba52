"""Limits hold at every instant with orders in flight, whatever the order in which the topics are read."""

from __future__ import annotations

from collections import deque
from decimal import Decimal as D

from hypothesis import given, settings
from hypothesis import strategies as st

from processors import risk
from processors.filters import Filters
from processors.step import Context
from schemas.events import Event
from schemas.ids import Purpose
from schemas.policy import Policy, Risk
from schemas.risk import Outcome, Verdict
from schemas.signals import Action, Decision, DecisionReason, Strategy
from schemas.trading import AccountSnapshot, Entry, Order, OrderState, Position, PositionStatus
from schemas.units import Source

NAMES = [f"binance.usdm.{s}USDT" for s in ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE")]
RULES = Filters(D("0.01"), D("0.01"), D("0.01"), D(100_000), D(5))
FILTERS = dict.fromkeys(NAMES, RULES)
POLICY = Policy(risk=Risk(max_positions=3, max_exposure=D("0.3"), cool_down_s=0))
EQUITY = D(10_000)


class World:
    """An executor and an exchange around risk; each topic is a queue that is read when the draw says so."""

    def __init__(self) -> None:
        self.states: dict[str, risk.State] = {}
        self.orders: deque[Order] = deque()
        self.positions: deque[Position] = deque()
        self.waiting: dict[str, Entry] = {}
        self.live: dict[str, tuple[Entry, D, int]] = {}
        self.n = 0
        snapshot = AccountSnapshot(
            event_id="s", at=0, account="sim", wallet=EQUITY, equity=EQUITY, available=EQUITY, unrealized_pnl=D(0), positions=[]
        )
        self.take(risk.ACCOUNT, snapshot)

    def take(self, key: str, event: Event) -> list[Event]:
        ctx = Context("any", 0, 0, POLICY, 1, "sim", self.states)
        result = risk.step(self.states.get(key), event, ctx, FILTERS)
        assert result.state is not None
        self.states[key] = result.state
        return list(result.events)

    def decide(self, name: str, action: Action, confidence: float, price: int) -> None:
        self.n += 1
        decision = Decision(
            event_id=f"d{self.n}",
            at=self.n,
            instrument=name,
            strategy=Strategy.MODEL,
            action=action,
            reason=DecisionReason.CONFIDENT,
            detail="",
            confidence=confidence,
            reference_price=D(price),
            features_id="f",
            prediction_id=None,
            model_version=None,
            candle_at=self.n,
            policy_version=1,
            source=Source.SYNTHETIC,
        )
        events = self.take(name, decision)
        assert sum(isinstance(event, Verdict) for event in events) == 1
        for event in events:
            if isinstance(event, Entry):
                assert name not in self.waiting
                assert name not in self.live
                self.waiting[name] = event
                assert abs(event.reference_price - event.stop_price) * event.quantity <= EQUITY * POLICY.risk.max_loss_share
                assert event.quantity % RULES.step == 0
                assert event.stop_price % RULES.tick == 0
            elif isinstance(event, Verdict) and event.outcome is Outcome.CLOSE:
                assert name in self.live or any(p.instrument == name for p in self.positions)

    def execute(self, name: str, share: int) -> None:
        """The exchange fills a share of a waiting entry in quarters; 0 refuses it."""
        entry = self.waiting.pop(name, None)
        if entry is None:
            return
        filled = (entry.quantity * share / 4).quantize(D("0.01"))
        state = OrderState.FILLED if share == 4 else OrderState.EXPIRED
        self.orders.append(self._order(entry, state if filled else OrderState.REFUSED, filled))
        if filled:
            self.live[name] = (entry, filled, 1)
            self.positions.append(self._position(entry, filled, 1))

    def close(self, name: str) -> None:
        if name in self.live:
            entry, _, revision = self.live.pop(name)
            self.positions.append(self._position(entry, D(0), revision + 1))

    def read(self, queue: deque[Order] | deque[Position]) -> None:
        if queue:
            event = queue.popleft()
            self.take(event.instrument, event)

    def check(self) -> None:
        names = [*self.waiting, *self.live]
        assert len(names) <= POLICY.risk.max_positions
        notional = sum((e.quantity * e.reference_price for e in self.waiting.values()), D(0))
        notional += sum((quantity * e.reference_price for e, quantity, _ in self.live.values()), D(0))
        assert notional <= EQUITY * POLICY.risk.max_exposure

    def _order(self, entry: Entry, state: OrderState, filled: D) -> Order:
        return Order(
            event_id=f"o-{entry.event_id}",
            at=self.n,
            instrument=entry.instrument,
            account="sim",
            intent_id=entry.event_id,
            client_id=entry.client_id,
            purpose=Purpose.ENTRY,
            side=entry.side.opens_with,
            order_type=entry.order_type,
            state=state,
            attempt=1,
            quantity=entry.quantity,
            price=None,
            trigger_price=None,
            close_position=False,
            reduce_only=False,
            filled_quantity=filled,
        )

    def _position(self, entry: Entry, quantity: D, revision: int) -> Position:
        return Position(
            event_id=f"p-{entry.event_id}-{revision}",
            at=self.n,
            instrument=entry.instrument,
            account="sim",
            position_id=f"p-{entry.event_id}",
            revision=revision,
            status=PositionStatus.OPEN if quantity else PositionStatus.FLAT,
            side=entry.side,
            quantity=quantity,
            entry_price=entry.reference_price,
            opened_at=0,
            realized_pnl=D(0),
            fees=D(0),
            last_trade_id=revision,
            last_fill_id="f",
            entry_client_id=entry.client_id,
            last_client_id=entry.client_id,
            source=Source.SYNTHETIC,
        )


acts = st.one_of(
    st.tuples(
        st.just("decide"),
        st.sampled_from(NAMES),
        st.sampled_from([Action.LONG, Action.SHORT]),
        st.floats(0.5, 1),
        st.integers(1, 70_000),
    ),
    st.tuples(st.just("execute"), st.sampled_from(NAMES), st.integers(0, 4)),
    st.tuples(st.just("close"), st.sampled_from(NAMES)),
    st.tuples(st.just("orders")),
    st.tuples(st.just("positions")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(acts, max_size=60))
def test_limits_hold_at_every_instant(history: list[tuple]) -> None:  # type: ignore[type-arg]
    world = World()
    for act in history:
        match act:
            case ("decide", name, action, confidence, price):
                world.decide(name, action, confidence, price)
            case ("execute", name, share):
                world.execute(name, share)
            case ("close", name):
                world.close(name)
            case ("orders",):
                world.read(world.orders)
            case ("positions",):
                world.read(world.positions)
        world.check()
    while world.orders or world.positions:
        world.read(world.orders)
        world.read(world.positions)
    for name in NAMES:  # when all is read, risk knows exactly what there is
        state = world.states.get(name, risk.State())
        assert (state.held is not None) == (name in world.live)
        assert (state.reserved is not None) == (name in world.waiting)
