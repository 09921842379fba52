"""What must hold for the exchange whatever clients and markets do."""

from __future__ import annotations

from decimal import Decimal as D

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.venue.local.account import START_BALANCE
from infra.venue.local.commands import CancelAllAlgos, CancelAllOrders, Command, PlaceAlgo, PlaceOrder, SetLeverage
from infra.venue.local.engine import Engine
from infra.venue.local.happenings import AlgoChanged, Happening, OrderChanged
from infra.venue.local.market.base import SYMBOLS, MarketEvent
from infra.venue.local.orders import sign
from infra.venue.local.refusals import Refusal
from infra.venue.local.scripted import at_price

BTC = SYMBOLS["BTCUSDT"]
START = 960_000

sides = st.sampled_from(["BUY", "SELL"])
qtys = st.integers(1, 60).map(lambda n: n * BTC.step)
prices = st.integers(-400, 400).map(lambda n: (START + 10 * n) * BTC.tick)

market_orders = st.builds(PlaceOrder, st.just("BTCUSDT"), sides, st.just("MARKET"), qtys, reduce_only=st.booleans())
limit_orders = st.builds(
    PlaceOrder,
    st.just("BTCUSDT"),
    sides,
    st.just("LIMIT"),
    qtys,
    prices,
    st.sampled_from(["GTC", "IOC", "FOK", "GTX"]),
    st.booleans(),
)
closing_stops = st.builds(
    PlaceAlgo,
    st.just("BTCUSDT"),
    sides,
    st.sampled_from(["STOP_MARKET", "TAKE_PROFIT_MARKET"]),
    prices,
    st.sampled_from(["MARK_PRICE", "CONTRACT_PRICE"]),
    close_position=st.just(True),
)
quantity_stops = st.builds(
    PlaceAlgo,
    st.just("BTCUSDT"),
    sides,
    st.sampled_from(["STOP_MARKET", "TAKE_PROFIT_MARKET"]),
    prices,
    st.sampled_from(["MARK_PRICE", "CONTRACT_PRICE"]),
    qtys,
    reduce_only=st.just(True),
)
others = st.one_of(
    st.just(CancelAllOrders("BTCUSDT")),
    st.just(CancelAllAlgos("BTCUSDT")),
    st.integers(1, 20).map(lambda n: SetLeverage("BTCUSDT", n)),
)
moves = st.tuples(st.integers(-400, 400), st.integers(1, 50), st.booleans())
steps = st.lists(
    st.one_of(market_orders, limit_orders, closing_stops, quantity_stops, market_orders, others, moves, moves),
    min_size=12,
    max_size=60,
)


def play(script: list[Command | tuple[int, int, bool]]) -> tuple[Engine, list[Happening]]:
    engine = Engine((BTC,), {"BTCUSDT": START})
    story: list[Happening] = []
    t = 0
    for step in script:
        t += 1_000
        asked: list[Command | MarketEvent] = [step] if not isinstance(step, tuple) else []
        if isinstance(step, tuple):
            move, qty, sold = step
            asked += at_price("BTCUSDT", t, START + 10 * move, qty=qty, depth=20, sold=sold)
        for what in asked:
            try:
                story += engine.apply(what, t)
            except Refusal:
                assert engine.floor.out == []
    return engine, story


@given(steps)
@settings(max_examples=300, deadline=None)
def test_money_and_positions_are_what_the_fills_say(script: list[Command | tuple[int, int, bool]]) -> None:
    engine, _ = play(script)
    floor = engine.floor
    fills = floor.fills["BTCUSDT"]
    position = floor.position("BTCUSDT")
    assert floor.account.wallet == START_BALANCE + sum(f.realised for f in fills) - sum(f.fee for f in fills)
    assert position.steps == sum(sign(f.side) * f.qty for f in fills)
    # cash that went out for what came in is either still in the position or realised: nothing is lost on the way
    unit = BTC.tick * BTC.step
    paid = sum((sign(f.side) * f.qty * f.price * unit for f in fills), D(0))
    assert paid == position.cost - sum((f.realised for f in fills), D(0))
    assert (position.steps == 0) <= (position.cost == 0)
    assert position.cost * position.steps >= 0
    assert [f.id for f in fills] == list(range(1, len(fills) + 1))


@given(steps)
@settings(max_examples=300, deadline=None)
def test_no_fill_without_an_order_and_no_order_beyond_its_quantity(script: list[Command | tuple[int, int, bool]]) -> None:
    engine, story = play(script)
    announced: dict[int, int] = {}
    done: set[int] = set()
    filled: dict[int, int] = {}
    for happened in story:
        if isinstance(happened, OrderChanged):
            order = happened.order
            assert order.id not in done, "nothing happens to an order that has ended"
            if happened.execution == "NEW":
                assert order.id not in announced
                announced[order.id] = order.qty
            if happened.fill is not None:
                filled[order.id] = filled.get(order.id, 0) + happened.fill.qty
                limit = order.price
                if limit:
                    assert happened.fill.price <= limit if order.side == "BUY" else happened.fill.price >= limit
            assert order.id in announced
            assert filled.get(order.id, 0) == order.filled <= order.qty
            if not order.is_open:
                done.add(order.id)
    resting = {order.id for order in engine.floor.open_orders()}
    assert resting == set(announced) - done


@given(steps)
@settings(max_examples=300, deadline=None)
def test_reduce_only_never_grows_and_flat_leaves_nothing_to_close(script: list[Command | tuple[int, int, bool]]) -> None:
    engine, story = play(script)
    held = 0
    for happened in story:
        if isinstance(happened, OrderChanged) and happened.fill is not None:
            after = held + sign(happened.fill.side) * happened.fill.qty
            if happened.order.reduce_only:
                assert abs(after) < abs(held)
                assert after * held >= 0
            held = after
    if held == 0:
        assert not [o for o in engine.floor.open_orders() if o.reduce_only]


@given(steps)
@settings(max_examples=200, deadline=None)
def test_conditional_orders_live_once(script: list[Command | tuple[int, int, bool]]) -> None:
    engine, story = play(script)
    lives: dict[int, list[str]] = {}
    for happened in story:
        if isinstance(happened, AlgoChanged):
            lives.setdefault(happened.algo.id, []).append(happened.algo.status)
    allowed = {
        ("NEW",),
        ("NEW", "CANCELED"),
        ("NEW", "EXPIRED"),
        ("NEW", "TRIGGERING", "TRIGGERED", "FINISHED"),
        ("NEW", "TRIGGERING", "REJECTED"),
        ("NEW", "TRIGGERING", "EXPIRED"),
    }
    assert {tuple(life) for life in lives.values()} <= allowed
    assert {a.id for a in engine.floor.live_algos()} == {number for number, life in lives.items() if life == ["NEW"]}


@given(steps)
@settings(max_examples=100, deadline=None)
def test_the_same_script_gives_the_same_history(script: list[Command | tuple[int, int, bool]]) -> None:
    _, first = play(script)
    _, second = play(script)
    assert first == second
