"""Whatever is asked of spot and whatever the market does: no money appears, vanishes or is locked for nobody."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.venue.local.engine import Engine
from infra.venue.local.journal import Journal, restore
from infra.venue.local.market.base import SYMBOLS
from infra.venue.local.refusals import Refusal
from infra.venue.local.scripted import at_price
from infra.venue.local.spot.orders import CancelAllSpot, CancelSpot, Leg, PlaceOco, PlaceSpot

P = 960_000
sides = st.sampled_from(("BUY", "SELL"))
sizes = st.integers(1, 60).map(lambda n: D(n) / 1_000)
prices = st.integers(-300, 300).map(lambda n: D(96_000) + n * 10)
kinds = st.sampled_from(("LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"))
tifs = st.sampled_from(("GTC", "IOC", "FOK"))


@st.composite
def legs(draw: st.DrawFn) -> Leg:
    kind = draw(kinds)
    price = draw(prices) if "LIMIT" in kind else None
    stop = draw(prices) if "STOP" in kind or "TAKE" in kind else None
    return Leg(kind, price, stop, draw(tifs) if kind == "LIMIT" else "GTC")  # type: ignore[arg-type]


orders = st.builds(lambda side, leg, qty: PlaceSpot("BTCUSDT", side, leg, qty), sides, legs(), sizes)
bought = st.builds(lambda side, cost: PlaceSpot("BTCUSDT", side, Leg("MARKET"), None, D(cost)), sides, st.integers(1, 9_000))
lists = st.builds(lambda side, qty, above, below: PlaceOco("BTCUSDT", side, qty, above, below), sides, sizes, legs(), legs())
sensible = st.builds(
    lambda qty, up, down: PlaceOco(
        "BTCUSDT", "SELL", qty, Leg("LIMIT_MAKER", D(96_000) + up * 10), Leg("STOP_LOSS", None, D(96_000) - down * 10)
    ),
    sizes,
    st.integers(1, 300),
    st.integers(1, 300),
)
cancels = st.builds(lambda number: CancelSpot("BTCUSDT", 12_000_000_000 + number), st.integers(1, 30))
moves = st.tuples(st.integers(-2_500, 2_500), st.integers(1, 400), st.booleans())
steps: Any = st.lists(
    st.one_of(orders, bought, lists, sensible, cancels, st.just(CancelAllSpot("BTCUSDT")), moves, moves), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_balances_are_the_start_and_the_fills_and_locks_are_those_of_open_orders(asked: list[Any]) -> None:
    engine = Engine((SYMBOLS["BTCUSDT"],), {"BTCUSDT": P}, D(10_000))
    journal = Journal()
    t = 1_000
    for what in asked:
        t += 700
        events = [what] if not isinstance(what, tuple) else at_price("BTCUSDT", t, P + what[0], depth=what[1], sold=what[2])[:2]
        for event in events:
            try:
                journal.tell(engine, engine.apply(event, t), 0.0)
            except Refusal:
                assert engine.floor.out == []
        check(engine)
    again = Engine((SYMBOLS["BTCUSDT"],), {"BTCUSDT": P}, D(10_000))
    restore(again, journal.records)
    assert (again.spot.balances.total, again.spot.balances.locked) == (engine.spot.balances.total, engine.spot.balances.locked)
    assert [o.id for o in again.spot.open_orders()] == [o.id for o in engine.spot.open_orders()]


def check(engine: Engine) -> None:
    spot = engine.spot
    fills = spot.fills["BTCUSDT"]
    base = sum((f.qty * (1 if f.side == "BUY" else -1) for f in fills), 0) * spot.symbols["BTCUSDT"].step
    quote = sum((f.quote * (-1 if f.side == "BUY" else 1) for f in fills), D(0))
    fees = {asset: sum((f.fee for f in fills if f.fee_asset == asset), D(0)) for asset in ("BTC", "USDT")}
    assert spot.balances.total == {"BTC": base - fees["BTC"], "USDT": 10_000 + quote - fees["USDT"]}
    there = spot.open_orders()
    for asset, side in (("BTC", "SELL"), ("USDT", "BUY")):
        assert spot.balances.locked[asset] == sum((o.locked for o in there if o.side == side), D(0))
        assert spot.balances.free(asset) >= 0
        assert spot.balances.locked[asset] >= 0
    assert all(o.is_open for o in there)
    assert {o.id for o in spot.orders.values() if o.is_open} == {o.id for o in there}
    for one in spot.lists.values():
        pair = [spot.orders[number] for number in one.orders]
        assert one.is_done == (not any(o.is_open for o in pair))
        assert sum(o.filled > 0 for o in pair) <= 1  # never both
