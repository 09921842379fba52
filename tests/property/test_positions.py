"""The fold of fills against the plainest possible bookkeeping, in fractions."""

from __future__ import annotations

import random
from decimal import Decimal as D
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from processors import positions
from processors.step import Context
from schemas import ids
from schemas.ids import Purpose
from schemas.policy import Policy
from schemas.trading import Closed, Fill, Position, PositionStatus
from schemas.units import OrderSide, Source

BTC = "binance.usdm.BTCUSDT"
CTX = Context("trade.fills", 0, 0, Policy(), 1, "sim", {})

trades = st.lists(st.tuples(st.sampled_from(list(OrderSide)), st.integers(1, 30), st.integers(90, 110)), min_size=1, max_size=25)


def fills_of(rows: list[tuple[OrderSide, int, int]]) -> list[Fill]:
    return [
        Fill(
            event_id=f"fill-{n}",
            at=n,
            instrument=BTC,
            account="sim",
            trade_id=n,
            order_id="1",
            client_id=ids.client_id(Purpose.ENTRY, n),
            purpose=Purpose.ENTRY,
            side=side,
            price=D(price),
            quantity=D(quantity) / 10,
            fee=D("0.01"),
            fee_asset="USDT",
            realized_pnl=D(0),
            maker=False,
            backfilled=False,
            source=Source.SYNTHETIC,
        )
        for n, (side, quantity, price) in enumerate(rows, 1)
    ]


def run(fills: list[Fill]) -> tuple[positions.State, list[Any]]:
    state: positions.State | None = None
    events: list[Any] = []
    for fill in fills:
        state, new = positions.step(state, fill, CTX)
        events += new
    assert state is not None
    return state, events


def open_now(events: list[Any]) -> dict[str, D]:
    """What a reader of the topic believes at the end: quantities by position."""
    found: dict[str, D] = {}
    for event in events:
        if isinstance(event, Position):
            if event.status is PositionStatus.OPEN:
                found[event.position_id] = event.quantity
            else:
                found.pop(event.position_id, None)
    return found


def naive(fills: list[Fill]) -> tuple[Fraction, Fraction, list[Fraction]]:
    """(signed quantity, cash from all trades, profit of each round trip)."""
    quantity, trip_cash, trips, total = Fraction(0), Fraction(0), [], Fraction(0)
    for fill in fills:
        sign = 1 if fill.side is OrderSide.BUY else -1
        left, price = Fraction(fill.quantity), Fraction(fill.price)
        while left:
            part = min(left, abs(quantity)) if quantity * sign < 0 else left
            quantity += sign * part
            trip_cash -= sign * part * price
            left -= part
            if quantity == 0:
                trips.append(trip_cash)
                total += trip_cash
                trip_cash = Fraction(0)
    return quantity, total, trips


@settings(max_examples=150, deadline=None)
@given(trades)
def test_the_fold_equals_plain_bookkeeping(rows: list[tuple[OrderSide, int, int]]) -> None:
    fills = fills_of(rows)
    state, events = run(fills)
    quantity, _, trips = naive(fills)
    held = positions.fold(state, state.rows).open
    assert quantity == (Fraction(held.quantity) * held.side.sign if held else 0)
    assert [Fraction(event.realized_pnl) for event in events if isinstance(event, Closed)] == trips
    fees = sum(event.fees for event in events if isinstance(event, Closed)) + (held.fees if held else 0)
    assert abs(fees - len(fills) * D("0.01")) < D("1e-9")


@settings(max_examples=150, deadline=None)
@given(trades, st.data())
def test_any_order_and_any_duplicates_end_in_the_same_position(rows: list[tuple[OrderSide, int, int]], data: st.DataObject) -> None:
    fills = fills_of(rows)
    shuffled = data.draw(st.permutations(fills + data.draw(st.lists(st.sampled_from(fills), max_size=5))))
    straight, _ = run(fills)
    mixed, events = run(list(shuffled))
    assert positions.fold(mixed, mixed.rows) == positions.fold(straight, straight.rows)
    held = positions.fold(mixed, mixed.rows).open
    assert open_now(events) == ({held.position_id: held.quantity} if held else {})


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(70, 120), st.integers(0, 120))
def test_the_position_is_the_sum_of_all_fills_however_late(seed: int, many: int, late_by: int) -> None:
    dice = random.Random(seed)
    fills = fills_of([(dice.choice(list(OrderSide)), dice.randint(1, 30), dice.randint(90, 110)) for _ in range(many)])
    mixed = sorted(fills + dice.sample(fills, many // 3), key=lambda fill: fill.trade_id + dice.randint(0, late_by))
    state, events = run(mixed)
    total = sum(fill.quantity if fill.side is OrderSide.BUY else -fill.quantity for fill in fills)
    held = positions.fold(state, state.rows).open
    assert total == (held.quantity * held.side.sign if held else 0)
    assert open_now(events) == ({held.position_id: held.quantity} if held else {})


@settings(max_examples=50, deadline=None)
@given(trades)
def test_revisions_rise_by_one_and_ids_never_repeat(rows: list[tuple[OrderSide, int, int]]) -> None:
    _, events = run(fills_of(rows))
    names = [event.event_id for event in events]
    assert len(names) == len(set(names))
    last: dict[str, int] = {}
    for event in events:
        if isinstance(event, Position):
            assert event.revision == last.get(event.position_id, 0) + 1
            last[event.position_id] = event.revision
