"""Whatever clients and a violent market do to an account with every kind of order, in every mode: the money adds up, and
the log tells it all.
"""

from __future__ import annotations

from decimal import Decimal as D

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.venue.local.account import START_BALANCE
from infra.venue.local.commands import (
    AmendOrder,
    CancelAllAlgos,
    CancelAllOrders,
    Command,
    MoveMargin,
    PlaceAlgo,
    PlaceOrder,
    SetLeverage,
    SetMarginType,
    SetPositionMode,
)
from infra.venue.local.engine import Engine
from infra.venue.local.journal import Journal, restore
from infra.venue.local.market.base import FUNDING_MS, SYMBOLS, Mark, MarketEvent
from infra.venue.local.orders import sign
from infra.venue.local.refusals import Refusal
from infra.venue.local.scripted import at_price

PAIR = (SYMBOLS["BTCUSDT"], SYMBOLS["ETHUSDT"])
STARTS = {"BTCUSDT": 960_000, "ETHUSDT": 330_000}
Move = tuple[str, int, int]

names = st.sampled_from(list(STARTS))
sides = st.sampled_from(["BUY", "SELL"])
legs = st.sampled_from(["BOTH", "BOTH", "LONG", "SHORT"])
qtys = st.sampled_from([D("0.010"), D("0.050"), D("0.500"), D("1.500")])
levels = st.sampled_from([D("0.95"), D("0.99"), D("0.999"), D("1"), D("1.001"), D("1.01"), D("1.05")])


@st.composite
def price_of(draw: st.DrawFn, name: str) -> D:
    symbol = SYMBOLS[name]
    return int(STARTS[name] * draw(levels)) * symbol.tick


@st.composite
def commands(draw: st.DrawFn) -> Command:
    name, side, leg, qty = draw(names), draw(sides), draw(legs), draw(qtys)
    price = draw(price_of(name))
    reduce_only = draw(st.booleans())
    kind = draw(st.integers(0, 11))
    if kind <= 3:
        return PlaceOrder(name, side, "MARKET", qty, reduce_only=reduce_only, position_side=leg)  # type: ignore[arg-type]
    if kind <= 5:
        return PlaceOrder(name, side, "LIMIT", qty, price, client_id="a", reduce_only=reduce_only, position_side=leg)  # type: ignore[arg-type]
    if kind == 6:
        return AmendOrder(name, side, qty, price, client_id="a")  # type: ignore[arg-type]
    if kind == 7:
        algo = draw(st.sampled_from(["STOP", "TAKE_PROFIT", "STOP_MARKET"]))
        return PlaceAlgo(name, side, algo, price, "MARK_PRICE", qty, position_side=leg, price=price)  # type: ignore[arg-type]
    if kind == 8:
        return PlaceAlgo(name, side, "TRAILING_STOP_MARKET", D(0), "MARK_PRICE", qty, position_side=leg, callback=D(1))  # type: ignore[arg-type]
    if kind == 9:
        return MoveMargin(name, draw(st.sampled_from([D(50), D(-20), D(2_000)])), leg)  # type: ignore[arg-type]
    if kind == 10:
        return SetLeverage(name, draw(st.sampled_from([1, 5, 20, 75])))
    rest: list[Command] = [CancelAllOrders(name), CancelAllAlgos(name), SetPositionMode(True), SetPositionMode(False)]
    return draw(st.sampled_from([*rest, SetMarginType(name, "ISOLATED"), SetMarginType(name, "CROSSED")]))


moves = st.tuples(names, st.sampled_from([0, 5, -5, 40, -40, 200, -200, 500, -450]), st.sampled_from([1_000, FUNDING_MS // 3]))
scripts = st.lists(st.one_of(commands(), commands(), moves), min_size=15, max_size=60)


def play(script: list[Command | Move]) -> tuple[Engine, Journal]:
    engine, journal = Engine(PAIR, STARTS), Journal()
    t, prices = FUNDING_MS * 60_000, dict(STARTS)
    for step in script:
        t += 1_000
        asked: list[Command | MarketEvent] = []
        if isinstance(step, tuple):
            name, per_mille, wait = step
            t += wait
            prices[name] = max(1_000, min(4_000_000, prices[name] * (1_000 + per_mille) // 1_000))
            asked += at_price(name, t, prices[name], depth=50)
        else:
            asked.append(step)
        for what in asked:
            try:
                journal.tell(engine, engine.apply(what, t), 0.0)
            except Refusal:
                assert engine.floor.out == []
            if isinstance(what, Mark):
                assert engine.floor.account.cross_wallet + engine.floor.cross_unrealised() >= 0
                assert not [a for a in engine.floor.live_algos(what.symbol) if not a.callback and a.fires_at(what.mark)]
    return engine, journal


@given(scripts)
@settings(max_examples=250, deadline=None)
def test_the_money_adds_up(script: list[Command | Move]) -> None:
    engine, _ = play(script)
    floor, account = engine.floor, engine.floor.account
    fills = [fill for rows in floor.fills.values() for fill in rows]
    booked = sum((b.amount for b in floor.booked if b.kind != "MARGIN"), D(0))
    assert account.wallet == START_BALANCE + sum(f.realised for f in fills) - sum(f.fee for f in fills) + booked
    for position in account.positions.values():
        own = [f for f in floor.fills[position.symbol.name] if f.position_side == position.side]
        assert position.steps == sum(sign(f.side) * f.qty for f in own)
        assert position.side != "LONG" or position.steps >= 0
        assert position.side != "SHORT" or position.steps <= 0
        assert position.steps or (position.cost == position.bound == 0)
        assert position.is_isolated or position.bound == 0
    assert set(account.exposed) == {p.symbol.name for p in account.positions.values() if p.steps}


@given(scripts)
@settings(max_examples=150, deadline=None)
def test_the_log_tells_the_whole_account(script: list[Command | Move]) -> None:
    engine, journal = play(script)
    again = Engine(PAIR, STARTS)
    restore(again, journal.records)
    floor, fresh = engine.floor, again.floor
    assert fresh.account.wallet == floor.account.wallet
    assert fresh.account.dual == floor.account.dual
    assert fresh.account.positions == floor.account.positions
    assert fresh.fills == floor.fills
    assert fresh.booked == floor.booked
    assert fresh.fundings == floor.fundings
    assert fresh.amendments == floor.amendments
    assert {o.id for o in fresh.open_orders()} == {o.id for o in floor.open_orders()}
    assert {a.id for a in fresh.live_algos()} == {a.id for a in floor.live_algos()}
